"""Two ends of a link without sockets: a pipe that can be cut, frozen and stopped up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from clouditia.protocol.handshake import Hello, Welcome, resume_point
from clouditia.protocol.link import (
    Delivered,
    Event,
    HelloReceived,
    Link,
    LinkConfig,
    Outbox,
    Role,
)
from clouditia.protocol.messages import Buffer
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import LinkRunner, TransportClosed

WAIT_S = 10.0


class PipeEnd:
    """One end of an in-memory connection; a :class:`FrameTransport`."""

    def __init__(self) -> None:
        self.peer = self
        self.is_closed = False
        self.is_frozen = False  # what is sent vanishes and nobody says so
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.sent: list[bytes] = []
        self._incoming: asyncio.Queue[bytes | TransportClosed] = asyncio.Queue()

    async def send(self, parts: list[Buffer]) -> None:
        await self.has_room.wait()
        if self.is_closed or self.peer.is_closed:
            raise TransportClosed("the pipe is closed")
        frame = b"".join(parts)
        self.sent.append(frame)
        if not self.is_frozen:
            self.peer._incoming.put_nowait(frame)

    async def receive(self) -> Buffer:
        if self.is_closed:
            raise TransportClosed("the pipe is closed")
        item = await self._incoming.get()
        if isinstance(item, TransportClosed):
            raise item
        return item

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.close_now(code, reason)

    def close_now(self, code: int = 1006, reason: str = "cut") -> None:
        """Close this end; the other hears ``code``, unless the network is frozen."""
        if not self.is_closed:
            self.is_closed = True
            if not self.is_frozen:
                self.peer._incoming.put_nowait(TransportClosed(reason, close_code=code))


class PushPipeEnd(PipeEnd):
    """An end that also pushes, and takes writes without waiting; a :class:`PushTransport`."""

    is_congested = False

    def attach(
        self, on_frame: Callable[[Buffer], None], on_closed: Callable[[TransportClosed], None]
    ) -> None:
        async def push() -> None:
            try:
                while True:
                    on_frame(await self.receive())
            except TransportClosed as reason:
                on_closed(reason)

        self._pushing = asyncio.create_task(push())

    def write(self, frames: list[list[Buffer]]) -> None:
        for frame in frames:
            self.sent.append(b"".join(frame))
            self.peer._incoming.put_nowait(self.sent[-1])

    def close_now(self, code: int = 1006, reason: str = "cut") -> None:
        super().close_now(code, reason)
        self._pushing.cancel()


def pipe(kind: type[PipeEnd] = PipeEnd) -> tuple[PipeEnd, PipeEnd]:
    """Two ends; ``kind`` is that of the second."""
    one, other = PipeEnd(), kind()
    one.peer, other.peer = other, one
    return one, other


class Journal(Outbox):
    """A host's messages: nothing is dropped when a client has it."""

    def release(self, ack: int) -> None:
        pass


class HostSide:
    """A host that serves one client over one connection after another."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.link = Link(Role.HOST, self.journal)
        self.runner = LinkRunner(self.link, on_event=self._on_event)
        self.got: list[bytes] = []
        self.events: list[Event] = []
        self.transports: list[PipeEnd] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def serve(self, transport: PipeEnd) -> asyncio.Task[Any]:
        self.transports.append(transport)
        self._tasks.append(asyncio.create_task(self._serve(transport, self._tasks[-1:])))
        return self._tasks[-1]

    async def _serve(self, transport: PipeEnd, before: list[asyncio.Task[Any]]) -> Any:
        for task in before:  # a link runs over one connection at a time
            task.cancel()
            await asyncio.wait([task])
        return await self.runner.run(transport)

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.journal.append([message])
        self.runner.wake()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, HelloReceived):
            start, _ = resume_point(
                event.hello,
                remembered=self.link.peer_acked or None,
                first_seq=1,
                next_seq=self.journal.next_seq,
                unfinished=1,
            )
            self.link.accept(
                Welcome("k", 1, self.link.received, start, 2**20, {}), self.runner._clock()
            )
        elif isinstance(event, Delivered):
            self.got.append(bytes(event.frame))
            self.link.handled(event.seq)


class ClientSide:
    """A client's link with its outbox and what came over it."""

    def __init__(self, config: LinkConfig | None = None) -> None:
        self.outbox = Outbox()
        hello = Hello("c", kernel_id="k", start=1)
        self.link = Link(Role.CLIENT, self.outbox, hello=hello, config=config or LinkConfig())
        self.got: list[bytes] = []
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Delivered):
            self.got.append(bytes(event.frame))
            self.link.handled(event.seq)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``test`` on a loop of its own; fails when it leaves a task behind or takes too long."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await wait_until_async(
            lambda: all(task.done() for task in others), 1.0, what=f"no task is left: {others}"
        )

    asyncio.run(limited())
