"""One connection of a proxy: two pumps that move bytes as the weather of their direction allows.

Everything travels through the weather, the end of a stream too: in a black hole nobody hears that
the other side has left.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from clouditia.testing.chaos.duplicating import Duplicator
from clouditia.testing.chaos.weather import Weather

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK_BYTES = 1 << 16
#: Bytes on their way: few, so that a reader that stops is felt by the sender, unless a delay
#: needs more of them.
_IN_FLIGHT_BYTES, _IN_FLIGHT_DELAYED_BYTES = 1 << 16, 1 << 24
_THROTTLE_STEP_S = 0.05


@dataclass
class _Piece:
    due: float
    data: bytes  # empty for the end of the stream
    is_reset: bool = False


class Pump:
    """Moves one direction of a connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        weather: Weather,
        count: Callable[[int], None],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._weather = weather
        self._count = count
        self._is_stranded = False
        self._duplicator = Duplicator(weather.duplicates) if weather.duplicates else None
        self._pieces: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._last_due = 0.0

    async def run(self) -> bool:
        """Move everything; returns whether the stream ended in order, and was not reset."""
        reading = asyncio.create_task(self._read())
        try:
            with suppress(OSError):
                return await self._write()
            return False
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(_CHUNK_BYTES):
                self._put(self._repeated(data))
                while self._waiting_bytes >= self._limit_bytes:
                    await self._change()
            self._put(b"", is_end=True)
        except OSError:
            self._put(b"", is_end=True, is_reset=True)

    def _repeated(self, data: bytes) -> bytes:
        if self._duplicator is None:
            return data
        self._duplicator.is_active = self._weather.duplicates is not None
        return self._duplicator.feed(data)

    @property
    def _limit_bytes(self) -> int:
        is_slow = self._weather.delay_s or self._weather.jitter_s
        return _IN_FLIGHT_DELAYED_BYTES if is_slow else _IN_FLIGHT_BYTES

    def _put(self, data: bytes, *, is_end: bool = False, is_reset: bool = False) -> None:
        if not data and not is_end:
            return
        due = asyncio.get_running_loop().time() + self._weather.travel_s()
        self._last_due = max(due, self._last_due)
        self._pieces.append(_Piece(self._last_due, data, is_reset))
        self._waiting_bytes += len(data)
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _write(self) -> bool:
        while True:
            while not self._pieces:
                await self._change()
            piece = self._pieces[0]
            await self._travel(piece.due)
            await self._passable()
            if not piece.data:
                if not piece.is_reset and self._writer.can_write_eof():
                    self._writer.write_eof()
                return not piece.is_reset
            await self._deliver(piece.data)
            self._pieces.popleft()
            self._waiting_bytes -= len(piece.data)
            self._changed.set()

    def strand(self) -> None:
        """Pass nothing from now on, not even the end."""
        self._is_stranded = True

    async def _passable(self) -> None:
        await self._weather.is_open.wait()
        if self._is_stranded:
            await asyncio.Event().wait()  # until the connection is cut

    async def _travel(self, due: float) -> None:
        while self._weather.delay_s or self._weather.jitter_s:  # a heal ends it at once
            left_s = due - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _THROTTLE_STEP_S))

    async def _deliver(self, data: bytes) -> None:
        begin = 0
        while begin < len(data):
            await self._passable()
            rate = self._weather.bytes_per_s
            size = max(1, int(rate * _THROTTLE_STEP_S)) if rate else len(data)
            piece = data[begin : begin + size]
            self._writer.write(piece)
            await self._writer.drain()
            self._count(len(piece))
            begin += size
            if rate:
                await asyncio.sleep(len(piece) / rate)


class Connection:
    """Both directions of one connection.

    Args:
        near: Reader and writer of the client.
        far: Those of the target.
        up: What becomes of bytes to the target.
        down: What becomes of bytes to the client.
        count: Is told the direction and the size of what was passed on.
    """

    def __init__(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        up: Weather,
        down: Weather,
        count: Callable[[str, int], None],
    ) -> None:
        self.writers = {"up": far[1], "down": near[1]}
        self._pumps = [
            Pump(near[0], far[1], up, lambda size: count("up", size)),
            Pump(far[0], near[1], down, lambda size: count("down", size)),
        ]
        self._tasks: list[asyncio.Task[bool]] = []

    async def run(self) -> None:
        """Move bytes until both sides have ended, or one was reset; then reset what is left."""
        self._tasks = [asyncio.create_task(pump.run()) for pump in self._pumps]
        waiting = set(self._tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(task.cancelled() or not task.result() for task in done):
                    return
        finally:
            self.cut()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset both sides, whatever the weather."""
        for task in self._tasks:
            task.cancel()
        for writer in self.writers.values():
            reset(writer)

    def strand(self) -> None:
        """Pass nothing any more and tell nobody."""
        for pump in self._pumps:
            pump.strand()

    def half_close(self, direction: str) -> None:
        """End one direction in order; the other goes on."""
        if self.writers[direction].can_write_eof():
            self.writers[direction].write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a vanished network or a killed process would."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
