"""The link: two numbered message streams over connections that come and go.

A :class:`Link` outlives its connections. Call ``connection_made``, feed ``receive`` and ``tick``,
send what ``data_to_send`` returns, act on ``events``, and report a broken connection with
``connection_lost``; the next ``connection_made`` resumes where both sides stand. Peer input never
raises: it yields :class:`Failed` and a CLOSE frame to send.

Source: docs/protocol.md.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, List, Optional

from clouditia.errors import (
    ClouditiaError,
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
    error_from_wire,
)
from clouditia.protocol import frames
from clouditia.protocol.handshake import (
    Hello,
    Welcome,
    choose_protocol,
    hello_from_fields,
    resume_point,
    welcome_from_fields,
)
from clouditia.protocol.link_events import (
    DEFAULT_CONFIG,
    GOODBYE,
    ClosedByPeer,
    Delivered,
    Event,
    Failed,
    GapSeen,
    HelloReceived,
    LinkConfig,
    LinkState,
    Online,
    PeerAcked,
    Role,
)
from clouditia.protocol.link_receiver import LinkReceiver
from clouditia.protocol.link_sender import LinkSender
from clouditia.protocol.messages import Buffer
from clouditia.protocol.outbox import Omitted, Outbox, Source

__all__ = [
    "ClosedByPeer",
    "Delivered",
    "Event",
    "Failed",
    "GapSeen",
    "HelloReceived",
    "Link",
    "LinkConfig",
    "LinkState",
    "Omitted",
    "Online",
    "Outbox",
    "PeerAcked",
    "Role",
    "Source",
    "resume_point",
]


class Link:
    """One side of a link.

    Args:
        role: Client or host.
        source: Outgoing messages; the client's :class:`Outbox` or the host's journal.
        hello: The client's greeting; ``received`` and ``epoch`` are filled in on each connection.
        config: Limits and times.
    """

    def __init__(
        self,
        role: Role,
        source: Source,
        *,
        hello: Optional[Hello] = None,
        config: LinkConfig = DEFAULT_CONFIG,
    ) -> None:
        if (role is Role.CLIENT) != (hello is not None):
            raise LocalProtocolError("a client link needs a hello, a host link takes none")
        self.state = LinkState.OFFLINE
        self.epoch: Optional[int] = None
        self._role = role
        self._hello = hello
        self._config = config
        self._source = source
        self._sender = LinkSender(source, config.max_fragment_bytes)
        self._receiver = LinkReceiver(config.window_bytes, config.max_message_bytes)
        self._control: List[bytes] = []
        self._events: Deque[Event] = deque()
        self._was_online = False
        self._peer_window = 0
        self._heard_at = 0.0
        self._pinged = False
        self._ack_due_at: Optional[float] = None
        self._now = 0.0

    # --- what the application sees ---------------------------------------------------------------

    @property
    def received(self) -> int:
        """Number of the last message that was delivered."""
        return self._receiver.received

    @property
    def handled_seq(self) -> int:
        """Number of the last message that the application is done with."""
        return self._receiver.handled

    @property
    def peer_acked(self) -> int:
        """Number of the last message that the peer is done with."""
        return self._sender.peer_acked

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.state is LinkState.CLOSED

    def events(self) -> List[Event]:
        """What has happened since the last call."""
        out = list(self._events)
        self._events.clear()
        return out

    def handled(self, seq: int) -> None:
        """The application is done with every message up to ``seq``: ack and credit may go out."""
        if seq > self._receiver.received:
            raise LocalProtocolError(
                "message %d cannot be handled, only %d arrived" % (seq, self._receiver.received)
            )
        self._receiver.done(seq)
        if self._ack_due_at is None and self._receiver.owes_ack:
            self._ack_due_at = self._now + self._config.ack_delay_s

    # --- connections -----------------------------------------------------------------------------

    def connection_made(self, now: float) -> None:
        """A fresh connection is up; the client says hello, the host waits for it."""
        if self.state is LinkState.CLOSED:
            raise LocalProtocolError("the link is closed for good")
        self.connection_lost("replaced by a new connection")
        self.state = LinkState.RESUMING
        self._now = self._heard_at = now
        self._pinged = False
        self._ack_due_at = None
        self._receiver.reset()
        if self._hello is not None:
            hello = self._hello._replace(
                received=self.received, epoch=self.epoch, window=self._receiver.credit
            )
            self._control.append(hello.encode())

    def connection_lost(self, reason: str) -> None:
        """The connection is gone, for whatever ``reason``; nothing numbered is lost by it."""
        self._sender.stop()
        self._control.clear()
        self._ack_due_at = None
        if self.state is not LinkState.CLOSED:
            self.state = LinkState.OFFLINE

    def accept(self, welcome: Welcome, now: float) -> None:
        """Host: answer the hello; the stream goes on at ``welcome.next``."""
        if self._role is not Role.HOST or self.state is not LinkState.RESUMING:
            raise LocalProtocolError("accept() answers a HelloReceived event of a host link")
        self._now = now
        # Everything before the start counts as handled by this client.
        self._sender.peer_acked = max(self._sender.peer_acked, welcome.next - 1)
        # A host that was started again knows from its journal what this client has sent before.
        self._receiver.start(welcome.received)
        self._control.append(welcome.encode())
        self._go_online(welcome, next_seq=welcome.next, credit=self._peer_window)

    def close(self, error_wire: Dict[str, Any]) -> None:
        """Say CLOSE with the wire form of an error; the link never comes back."""
        if self.state in (LinkState.RESUMING, LinkState.ONLINE):
            self._control.append(frames.encode_json_frame(frames.CLOSE, error_wire))
        self._sender.stop()
        self.state = LinkState.CLOSED

    def say_goodbye(self) -> None:
        """Client: leave for good, so that the host may forget this client."""
        self.close({"code": GOODBYE, "message": "the client has left for good"})

    def _go_online(self, welcome: Welcome, *, next_seq: int, credit: int) -> None:
        self._sender.start(next_seq, credit)
        self.state = LinkState.ONLINE
        self.epoch = welcome.epoch
        self._was_online = True
        self._events.append(Online(welcome))

    # --- input -----------------------------------------------------------------------------------

    def receive(self, frame: Buffer, now: float) -> None:
        """Take one websocket message from the peer: a frame, or a bundle of them."""
        if self.state not in (LinkState.RESUMING, LinkState.ONLINE):
            return
        self._now = self._heard_at = now
        self._pinged = False
        try:
            for piece in frames.unbundle(frame):
                if self.state in (LinkState.RESUMING, LinkState.ONLINE):
                    self._dispatch(frames.parse(piece))
        except ClouditiaError as error:
            self._fail(error)

    def _dispatch(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.JsonFrame):
            self._receive_json(frame)
        elif isinstance(frame, frames.Ping):
            self._control.append(frames.encode_pong(frame.token))
        elif isinstance(frame, frames.Pong):
            pass
        elif self.state is not LinkState.ONLINE:
            raise RemoteProtocolError("messages arrived before the handshake was done")
        elif isinstance(frame, frames.Data):
            self._receive_data(frame)
        elif isinstance(frame, frames.Ack):
            self._sender.credited(frame.credit)
            self._receive_ack(frame.ack)
        else:
            self._receive_gap(frame)

    def _receive_data(self, data: frames.Data) -> None:
        self._receive_ack(data.ack)
        whole = self._receiver.take(data)
        if whole is not None:
            self._events.append(Delivered(data.seq, whole))
        elif self._receiver.owes_ack and self._ack_due_at is None:
            self._ack_due_at = self._now + self._config.ack_delay_s

    def _receive_gap(self, gap: frames.Gap) -> None:
        news = self._receiver.skip(gap)
        if news is not None:
            self._events.append(GapSeen(news[0], news[1], gap.info))

    def _receive_ack(self, ack: int) -> None:
        if self._sender.acknowledged(ack):
            self._events.append(PeerAcked(ack))

    def _receive_json(self, frame: frames.JsonFrame) -> None:
        if frame.kind == frames.CLOSE:
            self.connection_lost("closed by the peer")
            error = error_from_wire(frame.fields)
            self._events.append(ClosedByPeer(error, frame.fields.get("code") == GOODBYE))
        elif self.state is not LinkState.RESUMING:
            raise RemoteProtocolError("a handshake frame arrived after the handshake")
        elif frame.kind == frames.HELLO and self._role is Role.HOST:
            hello = hello_from_fields(frame.fields)
            choose_protocol(hello.protocol)
            self._peer_window = hello.window
            self._events.append(HelloReceived(hello))
        elif frame.kind == frames.WELCOME and self._role is Role.CLIENT:
            self._receive_welcome(welcome_from_fields(frame.fields))
        else:
            raise RemoteProtocolError("a handshake frame of our own side arrived")

    def _receive_welcome(self, welcome: Welcome) -> None:
        if self._hello is not None and self._hello.kernel_id not in (None, welcome.kernel_id):
            raise RemoteProtocolError(
                f"kernel {self._hello.kernel_id} was asked for, {welcome.kernel_id} answered"
            )
        choose_protocol((welcome.protocol, welcome.protocol))
        if welcome.next < 1 or (self.received and welcome.next > self.received + 1):
            raise RemoteProtocolError(
                "the host goes on at message %d, %d was expected"
                % (welcome.next, self.received + 1)
            )
        if not self._was_online:
            # A client that starts afresh under a known id goes on counting where the host stands.
            self._source.rebase(welcome.received + 1)
            self._sender.peer_acked = welcome.received
        self._receiver.start(welcome.next - 1)
        self._receive_ack(welcome.received)
        self._go_online(
            welcome,
            next_seq=max(welcome.received + 1, self._source.first_seq),
            credit=welcome.window,
        )

    def _fail(self, error: ClouditiaError) -> None:
        self._control.append(frames.encode_json_frame(frames.CLOSE, error.to_wire()))
        self._sender.stop()
        self.state = LinkState.OFFLINE
        self._events.append(Failed(error))

    # --- output and time -------------------------------------------------------------------------

    def data_to_send(self, max_bytes: int = 1024 * 1024) -> List[List[Buffer]]:
        """What to send now, in order: the parts of each websocket message."""
        out: List[List[Buffer]] = [[control] for control in self._control]
        self._control.clear()
        if self.state is not LinkState.ONLINE:
            return frames.bundle(out)
        data = self._sender.frames(self._receiver.handled, max_bytes)
        if data:
            self._receiver.told(credit=False)
        if self._receiver.owes_ack and (self._is_ack_due() or self._receiver.is_ack_urgent):
            out.append([frames.encode_ack(self._receiver.handled, self._receiver.credit)])
            self._receiver.told(credit=True)
        if not self._receiver.owes_ack:
            self._ack_due_at = None
        return frames.bundle(out + data)

    @property
    def has_data(self) -> bool:
        """Whether ``data_to_send`` would return something now."""
        if self._control:
            return True
        if self.state is not LinkState.ONLINE:
            return False
        urgent = self._is_ack_due() or self._receiver.is_ack_urgent
        return self._sender.has_work or (self._receiver.owes_ack and urgent)

    def _is_ack_due(self) -> bool:
        return self._ack_due_at is not None and self._now >= self._ack_due_at

    def tick(self, now: float) -> None:
        """Let time pass: pings, acks that are due, and peers that fell silent."""
        self._now = now
        if self.state not in (LinkState.RESUMING, LinkState.ONLINE):
            return
        silence = now - self._heard_at
        if silence >= self._give_up_after():
            self._fail(
                ConnectionLostError(
                    f"nothing was heard from the peer for {silence:.0f} s.", retryable=True
                )
            )
        elif (
            self.state is LinkState.ONLINE
            and silence >= self._config.ping_after_s
            and not self._pinged
        ):
            self._pinged = True
            self._control.append(frames.encode_ping(int(now * 1e3) & (2**63 - 1)))

    def _give_up_after(self) -> float:
        if self.state is LinkState.RESUMING:
            return self._config.handshake_timeout_s
        return self._config.give_up_after_s

    def next_deadline(self) -> Optional[float]:
        """When ``tick`` has something to do, on the clock of ``now``; ``None`` for never."""
        if self.state not in (LinkState.RESUMING, LinkState.ONLINE):
            return None
        times = [self._heard_at + self._give_up_after()]
        if self.state is LinkState.ONLINE and not self._pinged:
            times.append(self._heard_at + self._config.ping_after_s)
        if self._ack_due_at is not None:
            times.append(self._ack_due_at)
        return min(times)
