"""The websocket that every route of this package uses: direct writes, back-pressure, liveness.

Tornado's own ``write_message`` makes a task for every message and joins parts (an eighth of a 1 KB
round trip through the relay); its pings cannot wait longer than their interval and count neither a
long upload nor a slow download as life. So frames are written to the stream here, which is all that
a server has to do: its frames are unmasked (RFC 6455 section 5.2).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, ClassVar

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from clouditia_gateway.channels.close_codes import fit_reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from tornado.iostream import IOStream

    from clouditia.protocol.messages import Buffer

log = logging.getLogger("clouditia.gateway")

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82
#: Parts up to this size are joined, so that a small message is one system call.
_JOIN_BYTES = 64 * 1024
#: Payload of a ping whose pong says how far the peer has read.
_RECEIPT = b"receipt"
_READ_AHEAD_BYTES = 1024 * 1024


class ChannelSocket(WebSocketHandler):
    """A websocket whose reader can be held back by whoever its messages go to.

    Subclasses implement :meth:`message_received`; what it returns is awaited before the next
    message is read, so a slow receiver holds this peer and nobody else.
    """

    ping_every_s: ClassVar[float] = 10.0
    give_up_after_s: ClassVar[float] = 20.0
    #: A writer has to wait while more than this is unsent, and goes on below the low mark.
    high_water_bytes: ClassVar[int] = 16 * 1024 * 1024
    low_water_bytes: ClassVar[int] = 4 * 1024 * 1024

    # Tornado's pings stay off; see the module's docstring.
    ping_interval = 0.0
    ping_timeout = 0.0

    def initialize(self) -> None:
        """Set up what tornado's constructor does not know."""
        self.unsent_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_held = False
        self._heard_at = 0.0
        self._is_write_blocked = False
        self._on_receipt: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def get_compression_options(self) -> None:
        """No deflate: it costs 6 to 15 times the transfer on a fast network."""

    def open(self, *_args: str, **_kwargs: str) -> None:
        """Turn off Nagle's delay and begin to watch for life."""
        self.set_nodelay(True)
        assert self.ws_connection is not None  # noqa: S101  (tornado calls open with it)
        stream = self.ws_connection.stream
        assert stream is not None  # noqa: S101  (likewise)
        self._stream: IOStream = stream
        # A message is read whole; tornado's own limit for that is 100 MB.
        stream.max_buffer_size = self.max_message_size + _READ_AHEAD_BYTES
        self._watch_stream(stream)
        self._still_alive()
        self._schedule_check()

    # --- reading ---------------------------------------------------------------------------------

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """Take one message; the next is read when the returned awaitable is done."""
        raise NotImplementedError

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Tornado's hook; a plain function, because a coroutine would cost a task a message."""
        if self._is_closing:
            return None
        waiting = self.message_received(message)
        return None if waiting is None else self._hold(waiting)

    async def _hold(self, waiting: Awaitable[None]) -> None:
        self._is_held = True
        try:
            await waiting
        finally:
            self._is_held = False
            self._still_alive()

    # --- writing ---------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_closing or self.ws_connection is None or self.ws_connection.is_closing()

    def write_now(self, parts: Sequence[Buffer], *, text: bool = False) -> asyncio.Future[None]:
        """Send one message without copying large parts.

        Returns:
            A future that is done when the operating system has taken the whole message.

        Raises:
            WebSocketClosedError: the connection is gone.
        """
        if self.is_closing:
            raise WebSocketClosedError
        sizes = [part.nbytes if isinstance(part, memoryview) else len(part) for part in parts]
        size = sum(sizes)
        head = _frame_head(_FINAL_TEXT if text else _FINAL_BINARY, size)
        try:
            flushed = self._write_parts(head, parts, size)
        except StreamClosedError as exc:
            raise WebSocketClosedError from exc
        if not flushed.done():
            self.unsent_bytes += size
            flushed.add_done_callback(lambda _: self._sent(size))
        return flushed

    def _write_parts(self, head: bytes, parts: Sequence[Buffer], size: int) -> asyncio.Future[None]:
        if size <= _JOIN_BYTES:
            return self._stream.write(b"".join([head, *parts]))
        flushed = self._stream.write(head)
        for part in parts:
            flushed = self._stream.write(part if isinstance(part, bytes) else memoryview(part))
        return flushed

    def forward(self, frame: Buffer) -> Awaitable[None] | None:
        """Send one binary message; what it returns is done when there is room for more.

        A connection that is gone swallows the frame: its end is reported by ``on_close``.
        """
        try:
            self.write_now([frame])
        except WebSocketClosedError:
            return None
        return self.room()

    def room(self) -> Awaitable[None] | None:
        """``None`` while this socket takes more, else what to wait for."""
        if self.unsent_bytes <= self.high_water_bytes or self.is_closing:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._room)

    def _sent(self, size: int) -> None:
        self.unsent_bytes -= size
        if self.unsent_bytes <= self.low_water_bytes:
            self._release_writers()

    def _release_writers(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # --- the end ---------------------------------------------------------------------------------

    def shut(self, code: int, reason: str) -> None:
        """Close with a code and a reason of any length; idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        self._release_writers()
        if self.ws_connection is not None:
            log.debug("closing %s: %s %s", self.request.path, code, reason)
            self.ws_connection.close(code, fit_reason(reason))

    def socket_closed(self) -> None:
        """The connection is gone; ``close_code`` and ``close_reason`` hold what the peer said."""

    def on_close(self) -> None:
        """Tornado's hook."""
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release_writers()
        self.socket_closed()

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log without the query, which may hold a key; ends of connections are no news."""
        if value is None or isinstance(value, (StreamClosedError, WebSocketClosedError)):
            return
        error = (typ or type(value), value, tb)
        log.error("%s %s failed", self.request.method, self.request.path, exc_info=error)

    # --- liveness --------------------------------------------------------------------------------

    def _still_alive(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    def _watch_stream(self, stream: IOStream) -> None:
        """Count every byte from the peer, and every byte that it made room for, as life."""
        read, write = stream.read_from_fd, stream.write_to_fd

        def read_from_fd(buffer: bytearray | memoryview) -> int | None:
            count = read(buffer)
            if count:
                self._still_alive()
            return count

        def write_to_fd(data: memoryview) -> int:
            # A write into a buffer with room says nothing about the peer. One that follows a
            # blocked write does: the peer has taken what was in the way.
            was_blocked, self._is_write_blocked = self._is_write_blocked, True
            count = write(data)
            if count and was_blocked:
                self._still_alive()
            self._is_write_blocked = count < len(data)
            return count

        stream.read_from_fd = read_from_fd  # type: ignore[method-assign,assignment]  # tornado's hook
        stream.write_to_fd = write_to_fd  # type: ignore[method-assign]  # tornado's hook

    def _schedule_check(self) -> None:
        loop = asyncio.get_running_loop()
        overdue_in_s = self._heard_at + self.give_up_after_s - loop.time()
        delay_s = max(0.01, min(self.ping_every_s, overdue_in_s))
        self._timer = loop.call_later(delay_s, self._check)

    def _check(self) -> None:
        self._timer = None
        silence_s = asyncio.get_running_loop().time() - self._heard_at
        if self.ws_connection is None or self.ws_connection.is_closing():
            return
        if self._is_held:
            self._still_alive()  # it is we who do not read
        elif silence_s >= self.give_up_after_s:
            log.info("%s: no sign of life for %.0f s, closing", self.request.path, silence_s)
            self._stream.close()  # a close frame would wait behind what the peer does not read
            return
        elif not self._stream.writing():
            self._ping()
        self._schedule_check()

    def ask_receipt(self, on_receipt: Callable[[], None]) -> None:
        """Call back when the peer has read all that was written so far; one at a time.

        A connection that is gone never calls back.
        """
        self._on_receipt = on_receipt
        self._ping(_RECEIPT)

    def on_pong(self, data: bytes) -> None:
        """Tornado's hook."""
        if data == _RECEIPT and self._on_receipt is not None:
            on_receipt, self._on_receipt = self._on_receipt, None
            on_receipt()

    def _ping(self, data: bytes = b"") -> None:
        try:
            self.ping(data)
        except (WebSocketClosedError, StreamClosedError):
            log.debug("%s closed while it was pinged", self.request.path)


def _frame_head(opcode: int, size: int) -> bytes:
    if size < 126:
        return bytes((opcode, size))
    if size <= 0xFFFF:
        return struct.pack("!BBH", opcode, 126, size)
    return struct.pack("!BBQ", opcode, 127, size)
