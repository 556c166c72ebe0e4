"""Websockets that hand over their messages from the loop's read callback.

``websockets`` offers ``recv()``, which costs a queue, a future and a task switch a message. A
bridge and a kernel host pass messages through, so they take them where the library takes its
frames. Measured for a trivial cell: see docs/architecture.md, "What a round trip costs".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.frames import Frame, Opcode

from clouditia.protocol.messages import Buffer

#: Messages that may wait for a reader before the peer is held.
_WAITING_MESSAGES = 4
#: asyncio reads up to 256 KiB at once and pays for a memory mapping of that size each time; up to
#: here the allocator has the memory at hand.
_READ_BYTES = 64 * 1024
#: Messages up to this size are joined into one write.
_JOIN_BYTES = 64 * 1024


class PushConnection(Connection):
    """A connection whose messages go to a callback, or wait in order; open from the start."""

    #: Whether the opening handshake is done, so that frames are messages.
    is_upgraded = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[str | Buffer] = deque()
        # One buffer, not a list: a peer may send a message in a million pieces of one byte.
        self._pieces = bytearray()
        self._is_text = False
        self._arrived = asyncio.Event()
        self._is_lost = False
        self._is_held = False
        self._on_message: Callable[[str | Buffer], None] | None = None
        self._on_lost: Callable[[], None] = _nothing

    def push_to(
        self, on_message: Callable[[str | Buffer], None], on_lost: Callable[[], None]
    ) -> None:
        """Hand messages to ``on_message`` from now on, beginning with those that wait."""
        self._on_message, self._on_lost = on_message, on_lost
        while self._waiting:
            on_message(self._waiting.popleft())
        self._hold_or_release()
        if self._is_lost:
            on_lost()

    def hold(self, *, hold: bool) -> None:
        """Stop (or go on) reading, so that the peer is held by TCP."""
        self._is_held = hold
        self._hold_or_release()

    async def next_message(self) -> str | Buffer | None:
        """The next message, or None when the connection is gone."""
        while not self._waiting:
            if self._is_lost:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._waiting.popleft()
        self._hold_or_release()
        return message

    def write_binary(self, messages: list[Buffer]) -> None:
        """Write messages without waiting; a connection that is closing swallows them."""
        if self.protocol.state.name != "OPEN":
            return
        for message in messages:
            self.protocol.send_binary(message)
        chunks = self.protocol.data_to_send()
        if sum(map(len, chunks)) <= _JOIN_BYTES:
            chunks = [b"".join(chunks)]
        for chunk in chunks:
            self.transport.write(chunk)

    # --- hooks of the library --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is up."""
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        super().connection_made(transport)

    def process_event(self, event: Any) -> None:
        """Take one frame (or the response to the upgrade) from the library."""
        is_data = isinstance(event, Frame) and event.opcode <= Opcode.BINARY
        if not is_data or not self.is_upgraded:
            super().process_event(event)
            return
        if event.opcode is not Opcode.CONT:
            self._is_text = event.opcode is Opcode.TEXT
        if event.fin and not self._pieces:
            self._take(event.data)
            return
        self._pieces += event.data
        if event.fin:
            whole, self._pieces = self._pieces, bytearray()
            self._take(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        super().connection_lost(exc)
        self._is_lost = True
        self._arrived.set()
        self._on_lost()

    def _take(self, data: Buffer) -> None:
        message = bytes(data).decode("utf-8", "replace") if self._is_text else data
        if self._on_message is not None:
            self._on_message(message)
            return
        self._waiting.append(message)
        self._arrived.set()
        self._hold_or_release()

    def _hold_or_release(self) -> None:
        if self._is_lost or self.transport.is_closing():
            return
        if self._is_held or len(self._waiting) >= _WAITING_MESSAGES:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class PushClientConnection(PushConnection, ClientConnection):
    """The client's end; the server answers the upgrade first."""

    @property
    def is_upgraded(self) -> bool:  # type: ignore[override]
        """Whether the server has answered the upgrade."""
        return self.response is not None


def _nothing() -> None:
    """Nobody wants to know yet."""
