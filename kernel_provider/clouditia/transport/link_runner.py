"""Runs one link over one connection at a time: socket and clock around the pure machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from clouditia.errors import ClouditiaError, ConnectionLostError
from clouditia.protocol.link import ClosedByPeer, Event, Failed, Link
from clouditia.protocol.messages import Buffer

_SEND_BATCH_BYTES = 1024 * 1024


class TransportClosed(ConnectionLostError):
    """A connection ended; ``code`` is the websocket close code, 1006 where there was none."""

    def __init__(self, message: str = "", *, close_code: int = 1006) -> None:
        super().__init__(message, retryable=True)
        self.close_code = close_code


class FrameTransport(Protocol):
    """A message-framed, ordered connection: a websocket or an in-memory pipe."""

    async def send(self, parts: list[Buffer]) -> None:
        """Send one binary message; waits while the peer is slow. Raises TransportClosed."""
        ...

    async def receive(self) -> Buffer:
        """The next binary message. Raises TransportClosed when there is none."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; idempotent and bounded in time."""
        ...


@runtime_checkable
class PushTransport(FrameTransport, Protocol):
    """A transport that can also push its frames and take writes without waiting."""

    def attach(
        self, on_frame: Callable[[Buffer], None], on_closed: Callable[[TransportClosed], None]
    ) -> None:
        """Hand over each frame as it arrives, beginning with those that wait, and the end."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether writers should use ``send``, which waits."""
        ...

    def write(self, frames: list[list[Buffer]]) -> None:
        """Send messages without waiting."""
        ...


class LinkRunner:
    """Moves frames between a :class:`Link` and a transport; not thread-safe, one event loop.

    Args:
        link: The machine; it outlives connections and so does the runner.
        on_event: Called in order for each event of the link, on the event loop. It must not block.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        link: Link,
        *,
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.link = link
        self._on_event = on_event
        self._clock = clock
        self._work = asyncio.Event()
        self._error: ClouditiaError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._direct: PushTransport | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._is_writing = False  # the writer holds frames: whoever wrote now would overtake them

    def wake(self) -> None:
        """The source has grown or messages were handled: look for something to send."""
        if self.link.has_data:
            self._send_soon()
        self._arm_timer()

    async def run(
        self, transport: FrameTransport, first_frame: Buffer | None = None
    ) -> ClouditiaError:
        """Serve one connection until it ends; returns why.

        Args:
            transport: A fresh connection; it is closed on return.
            first_frame: A frame read from it already (the host reads HELLO to pick a link).

        Returns:
            :class:`TransportClosed`, or the error with which one of the sides closed the link.
        """
        self._error = None
        self.link.connection_made(self._clock())
        self._work.set()
        if first_frame is not None:
            self._feed(first_frame)
        tasks = [
            asyncio.create_task(self._read(transport)),
            asyncio.create_task(self._write(transport)),
        ]
        self._arm_timer()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = self._error or _reason(done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stop_callbacks()
            self.link.connection_lost("connection ended")
            await transport.close()
        return ended

    def _feed(self, frame: Buffer) -> None:
        self.link.receive(frame, self._clock())
        self._publish()

    def _publish(self) -> None:
        for event in self.link.events():
            if isinstance(event, (Failed, ClosedByPeer)):
                self._error = event.error
            self._on_event(event)
        if self._error is not None:
            self._work.set()
        elif self.link.has_data:
            self._send_soon()
        self._arm_timer()

    async def _read(self, transport: FrameTransport) -> None:
        if isinstance(transport, PushTransport):
            await self._pushed(transport)
        while self._error is None:
            self._feed(await transport.receive())
        await asyncio.Event().wait()  # the writer says the last word and ends the run

    async def _pushed(self, transport: PushTransport) -> None:
        """Let frames come by callback until the connection ends or the link has failed."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_frame(frame: Buffer) -> None:
            if self._error is None and not ended.done():
                try:
                    self._feed(frame)
                except Exception as exc:  # noqa: BLE001  (a callback's error belongs to run())
                    ended.set_exception(exc)

        def on_closed(reason: TransportClosed) -> None:
            if not ended.done():
                ended.set_exception(reason)

        self._direct = transport
        transport.attach(on_frame, on_closed)
        await ended

    def _send_soon(self) -> None:
        """Write at the end of this loop iteration, so that what comes together goes together."""
        if self._direct is None or self._is_writing:
            self._work.set()
        elif self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._flush, self._direct)

    def _flush(self, transport: PushTransport) -> None:
        self._flush_handle = None
        while self._direct is transport and not (self._is_writing or transport.is_congested):
            frames = self.link.data_to_send(_SEND_BATCH_BYTES)
            if not frames:
                if self.link.is_closed:
                    self._work.set()  # the last word is said
                return
            transport.write(frames)
        self._work.set()  # from here on the writer waits for room

    def _stop_callbacks(self) -> None:
        self._direct = None
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        self._timer = self._flush_handle = None

    async def _write(self, transport: FrameTransport) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            await self._send_all(transport)
            if self._error is not None or self.link.is_closed:
                return

    async def _send_all(self, transport: FrameTransport) -> None:
        self._is_writing = True
        try:
            while frames := self.link.data_to_send(_SEND_BATCH_BYTES):
                for frame in frames:
                    await transport.send(frame)
        finally:
            self._is_writing = False

    def _arm_timer(self) -> None:
        """See to it that ``tick`` is called at the link's next deadline, or a little before."""
        deadline = self.link.next_deadline()
        if deadline is None or (self._timer is not None and self._timer_due <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = deadline
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, deadline - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.link.tick(self._clock())
        self._publish()


def _reason(done: set[asyncio.Task[None]]) -> ClouditiaError:
    for task in done:
        error = task.exception()
        if isinstance(error, ClouditiaError):
            return error
        if error is not None:
            raise error
    return TransportClosed("the link was closed on this side", close_code=1000)
