"""A host's data connection as the transport that a link runner drives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tornado.websocket import WebSocketClosedError

from clouditia.transport.link_runner import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from clouditia.protocol.messages import Buffer
    from clouditia_gateway.channels.host_handlers import HostDataHandler

_NO_CODE = 1006
#: Frames that may wait for the link before the host's socket is held.
_WAITING_BYTES = 1024 * 1024


class HostTransport:
    """The gateway's end of a data connection, for clients that the gateway speaks the link for."""

    def __init__(self, data: HostDataHandler) -> None:
        self._data = data
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        self._ended: TransportClosed | None = None
        data.attach(self._frame_arrived, self._connection_ended)

    async def send(self, parts: list[Buffer]) -> None:
        """Send one frame; waits while the host has no room."""
        try:
            self._data.write_now(parts)
        except WebSocketClosedError:
            raise self._ended or TransportClosed("the data connection is gone") from None
        room = self._data.room()
        if room is not None:
            await room

    async def receive(self) -> Buffer:
        """The next frame of the host."""
        while not self._frames:
            if self._ended is not None:
                raise self._ended
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        frame = self._frames.popleft()
        self._waiting_bytes -= len(frame)
        if self._taken is not None and self._waiting_bytes <= _WAITING_BYTES:
            _resolve(self._taken)
            self._taken = None
        return frame

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; the close handshake goes on by itself and ends within 5 s."""
        self._data.shut(code, reason)
        self._connection_ended(code, reason)

    def _frame_arrived(self, frame: bytes) -> Awaitable[None] | None:
        self._frames.append(frame)
        self._waiting_bytes += len(frame)
        _resolve(self._arrived)
        if self._waiting_bytes <= _WAITING_BYTES or self._ended is not None:
            return None
        self._taken = asyncio.get_running_loop().create_future()
        return self._taken

    def _connection_ended(self, code: int | None, reason: str) -> None:
        if self._ended is None:
            told = f"the data connection ended ({code or _NO_CODE} {reason})".rstrip()
            self._ended = TransportClosed(told, close_code=code or _NO_CODE)
        _resolve(self._arrived)
        _resolve(self._taken)


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
