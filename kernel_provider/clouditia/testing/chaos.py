"""A TCP proxy that breaks the network on command, and the oracle that counts the damage."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from clouditia.testing.waiting import wait_until

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK_BYTES = 1 << 16


class ChaosProxy:
    """Forwards TCP connections from a port of its own to ``target_host:target_port``.

    The proxy runs in a thread. Every method may be called from any thread and has taken effect when
    it returns. ``bytes_up`` and ``bytes_down`` count what was forwarded.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.host = "127.0.0.1"
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._refuses = False
        self._delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy")
        self._thread.start()
        self._server = self._call(self._listen)

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    @property
    def connections(self) -> int:
        """Client connections that are open now."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Reset all connections and every new one, until :meth:`heal`."""
        self._call(self._cut, refuse=True)

    def cut_once(self) -> None:
        """Reset the connections that are open now; new ones pass."""
        self._call(self._cut, refuse=False)

    def black_hole(self) -> None:
        """Forward nothing and say nothing, in both directions, until :meth:`heal`."""
        self._call(self._swallow)

    def delay(self, delay_s: float) -> None:
        """Hold every piece of up to 64 KiB for ``delay_s`` seconds in each direction."""
        self._call(self._set_delay, delay_s)

    def heal(self) -> None:
        """Pass everything again, undelayed; what a black hole held back goes on."""
        self._call(self._heal)

    def wait_connected(self, timeout_s: float = 10.0) -> None:
        """Wait until a client is connected through the proxy."""
        wait_until(lambda: self.connections, timeout_s, what="a connection through the proxy")

    def close(self) -> None:
        """Reset everything and end the thread; harmless when repeated."""
        if self._loop.is_closed():
            return
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, function: Callable[..., Any], *arguments: object, **options: object) -> Any:
        async def on_the_loop() -> Any:
            result = function(*arguments, **options)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(on_the_loop(), self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled only by close(); asyncio would print that as an error of this callback.
        with suppress(asyncio.CancelledError):
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, far_writer, is_up=True))
                pumps.create_task(self._pump(far_reader, writer, is_up=False))
        finally:
            self._writers -= {writer, far_writer}
            _reset(writer)
            _reset(far_writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._open.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
                if is_up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
            if writer.can_write_eof():
                writer.write_eof()

    def _cut(self, *, refuse: bool) -> None:
        self._refuses = refuse
        for writer in self._writers:
            _reset(writer)
        self._open.set()  # pumps that a black hole holds must see the reset

    def _swallow(self) -> None:
        self._open.clear()

    def _set_delay(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def _heal(self) -> None:
        self._refuses = False
        self._delay_s = 0.0
        self._open.set()

    async def _shut(self) -> None:
        self._server.close()
        self._cut(refuse=True)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a vanished network or a killed process would."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


class LineOracle:
    """Judges the output of one cell that prints the lines ``#0``, ``#1``, … up to ``#count-1``.

    Feed it every Jupyter message that a client receives for the cell (:meth:`feed`), then compare
    the verdict with a healthy one: nothing ``lost``, nothing ``duplicated``, ``in_order``, one
    ``reply``, one ``idle``.
    """

    _LINE = re.compile(r"^#(\d+)$", re.MULTILINE)

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[dict[str, Any]] = []
        self.idles = 0
        self._text: list[str] = []

    @staticmethod
    def code(count: int, *, every_s: float = 0.0) -> str:
        """Source of a cell that prints the lines, one every ``every_s`` seconds."""
        pause = f"\n    time.sleep({every_s})" if every_s else ""
        flush = ", flush=True" if every_s else ""
        return f"import time\nfor i in range({count}):\n    print(f'#{{i}}'{flush}){pause}"

    def feed(self, message: dict[str, Any]) -> None:
        """Take one message (as ``jupyter_client`` returns it) of the cell."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream" and content["name"] == "stdout":
            self._text.append(content["text"])
        elif kind == "execute_reply":
            self.replies.append(content)
        elif kind == "status" and content["execution_state"] == "idle":
            self.idles += 1

    @property
    def numbers(self) -> list[int]:
        """The numbers in the order in which their lines came."""
        return [int(number) for number in self._LINE.findall("".join(self._text))]

    @property
    def lost(self) -> int:
        """How many of the lines never came."""
        return len(set(range(self.count)) - set(self.numbers))

    @property
    def duplicated(self) -> int:
        """How many lines came more than once, counted once per repetition."""
        return sum(times - 1 for times in Counter(self.numbers).values())

    @property
    def in_order(self) -> bool:
        """Whether no line came after one with a higher number."""
        return all(a <= b for a, b in itertools.pairwise(self.numbers))

    @property
    def reply(self) -> bool:
        """Whether exactly one reply came."""
        return len(self.replies) == 1

    @property
    def idle(self) -> bool:
        """Whether exactly one idle came."""
        return self.idles == 1

    @property
    def is_done(self) -> bool:
        """Whether reply and idle were both seen, which is when a request is complete."""
        return bool(self.replies) and self.idles > 0

    def verdict(self) -> dict[str, int | bool]:
        """All of it, to compare with :data:`HEALTHY`."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "in_order": self.in_order,
            "reply": self.reply,
            "idle": self.idle,
        }


#: The verdict on a cell of which nothing was lost and nothing came twice.
HEALTHY = {"lost": 0, "duplicated": 0, "in_order": True, "reply": True, "idle": True}
