"""Two links and the wires between them, for tests."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from clouditia.protocol import frames
from clouditia.protocol.handshake import Hello, Welcome
from clouditia.protocol.link import (
    ClosedByPeer,
    Delivered,
    Failed,
    GapSeen,
    HelloReceived,
    Link,
    LinkConfig,
    LinkState,
    Omitted,
    Outbox,
    PeerAcked,
    Role,
    resume_point,
)
from clouditia.protocol.messages import Buffer

SMALL = LinkConfig(
    window_bytes=64,
    max_fragment_bytes=16,
    max_message_bytes=1000,
    ping_after_s=10.0,
    give_up_after_s=20.0,
    handshake_timeout_s=60.0,
    ack_delay_s=0.05,
)


class Journal(Outbox):
    """A host's source: keeps everything, except the ranges that retention took."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, list[Buffer]] = {}
        self.omitted: list[Omitted] = []
        self.count = 0

    @property
    def first_seq(self) -> int:
        return 1

    @property
    def next_seq(self) -> int:
        return self.count + 1

    def append(self, parts: object) -> int:
        self.count += 1
        self.kept[self.count] = list(parts)  # type: ignore[call-overload]
        return self.count

    def omit(self, first: int, last: int) -> None:
        self.omitted.append(Omitted(first, last, "retention", last - first + 1, 0))

    def read(self, seq: int) -> list[Buffer] | Omitted:
        for gap in self.omitted:
            if gap.first <= seq <= gap.last:
                return gap._replace(first=seq)
        return self.kept[seq]

    def release(self, ack: int) -> None:
        pass


@dataclass
class Side:
    """A link with its application: what it got, and what it has not handled yet."""

    link: Link
    got: list[tuple[int, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    unhandled: deque[int] = field(default_factory=deque)
    errors: list[Exception] = field(default_factory=list)
    acks: list[int] = field(default_factory=list)

    def pump_events(self, now: float) -> None:
        for event in self.link.events():
            if isinstance(event, Delivered):
                self.got.append((event.seq, bytes(event.frame)))
                self.unhandled.append(event.seq)
            elif isinstance(event, GapSeen):
                self.gaps.append((event.first, event.last))
                self.unhandled.append(event.last)
            elif isinstance(event, (Failed, ClosedByPeer)):
                self.errors.append(event.error)
            elif isinstance(event, PeerAcked):
                self.acks.append(event.ack)
            elif isinstance(event, HelloReceived):
                welcome = Welcome(
                    "k",
                    1,
                    self.link.received,
                    resume_point(
                        event.hello,
                        remembered=self.link.peer_acked,
                        first_seq=1,
                        next_seq=self.source.next_seq,
                        unfinished=1,
                    )[0],
                    SMALL.window_bytes,
                    {},
                )
                self.link.accept(welcome, now)

    @property
    def source(self) -> Outbox:
        return self.link._source  # type: ignore[return-value]

    def handle(self, count: int) -> None:
        for _ in range(min(count, len(self.unhandled))):
            self.link.handled(self.unhandled.popleft())


class Network:
    """Two links and the wires between them; every step is chosen by a seeded adversary."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.journal = Journal()
        self.outbox = Outbox()
        hello = Hello("client", window=SMALL.window_bytes)
        self.client = Side(Link(Role.CLIENT, self.outbox, hello=hello, config=SMALL))
        self.host = Side(Link(Role.HOST, self.journal, config=SMALL))
        self.wires: dict[str, deque[bytes]] = {"up": deque(), "down": deque()}
        self.in_flight_peak = 0

    def connect(self) -> None:
        self.cut()
        self.client.link.connection_made(self.now)
        self.host.link.connection_made(self.now)

    def cut(self) -> None:
        for wire in self.wires.values():
            wire.clear()
        self.client.link.connection_lost("cut")
        self.host.link.connection_lost("cut")

    def flush(self, side: Side, wire: str) -> None:
        budget = self.random.choice([1, 17, 1000])
        for frame in side.link.data_to_send(budget):
            self.wires[wire].append(b"".join(frame))

    def deliver(self, side: Side, wire: str) -> None:
        if self.wires[wire]:
            side.link.receive(self.wires[wire].popleft(), self.now)
            side.pump_events(self.now)

    def exchange(self) -> None:
        """Both sides send what they may, then everything on the wires arrives."""
        for side, wire in ((self.client, "up"), (self.host, "down")):
            for frame in side.link.data_to_send(10_000):
                self.wires[wire].append(b"".join(frame))
        for side, wire in ((self.host, "up"), (self.client, "down")):
            while self.wires[wire]:
                self.deliver(side, wire)

    def step(self) -> None:
        self.now += self.random.choice([0.0, 0.0, 0.01, 0.06])
        for side in (self.client, self.host):
            side.link.tick(self.now)
            side.pump_events(self.now)
        moves: list[Callable[[], None]] = [
            lambda: self.flush(self.client, "up"),
            lambda: self.flush(self.host, "down"),
            lambda: self.deliver(self.host, "up"),
            lambda: self.deliver(self.client, "down"),
            lambda: self.client.handle(self.random.randint(1, 3)),
            lambda: self.host.handle(self.random.randint(1, 3)),
        ]
        self.random.choice(moves)()
        on_wire = sum(len(f) for f in self.wires["down"] if f[0] == frames.DATA)
        self.in_flight_peak = max(self.in_flight_peak, on_wire)

    def settle(self) -> None:
        """No more faults: run until nothing moves."""
        if self.client.link.state is not LinkState.ONLINE:
            self.connect()
        for _ in range(20_000):
            self.now += 0.06
            for side in (self.client, self.host):
                side.handle(1000)
                side.link.tick(self.now)
            before = (self.client.link.received, self.host.link.received, self.host.link.peer_acked)
            for _ in range(8):
                self.flush(self.client, "up")
                self.flush(self.host, "down")
                while self.wires["up"]:
                    self.deliver(self.host, "up")
                while self.wires["down"]:
                    self.deliver(self.client, "down")
            after = (self.client.link.received, self.host.link.received, self.host.link.peer_acked)
            all_acked = self.host.link.peer_acked == self.journal.count and not len(self.outbox)
            if before == after and all_acked:
                return
        pytest.fail(f"the link never came to rest: {after}")


def data_frame(seq: int, ack: int, total: int, offset: int, payload: bytes) -> bytes:
    return b"".join(map(bytes, frames.encode_data(seq, ack, total, offset, [payload])))


def payload(number: int, size: int) -> list[Buffer]:
    whole = (b"%06d" % number + bytes(size))[: max(8, size)]
    return [whole[:3], memoryview(whole)[3:7], whole[7:]]


def online_pair() -> tuple[Network, Side, Side]:
    net = Network(3)
    net.connect()
    net.settle()
    return net, net.client, net.host
