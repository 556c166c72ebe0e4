"""A TCP proxy that breaks the network on command."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from clouditia.testing.chaos.duplicating import Rule
from clouditia.testing.chaos.pumping import Connection, reset
from clouditia.testing.chaos.weather import Direction, Weather
from clouditia.testing.waiting import wait_until

_CALL_S = 10.0


class ChaosProxy:
    """Forwards TCP connections from a port of its own to ``target_host:target_port``.

    The proxy runs in a thread. Every method may be called from any thread and has taken effect when
    it returns. Where a method takes a ``direction``, ``"up"`` is from the client to the target.

    Attributes:
        target: Host and port that connections from now on go to.
        host: Where the proxy listens.
        port: Its port.
        bytes_up: What was forwarded to the target.
        bytes_down: What was forwarded to clients.
        accepted: Connections that clients have opened so far, those that were refused too.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.host = "127.0.0.1"
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.accepted = 0
        self._refuses = False
        self._up, self._down = Weather(), Weather()
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
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
        return len(self._connections)

    # --- what can go wrong -----------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections and every new one, until :meth:`heal`."""
        self._call(self._cut, refuse=True)

    def cut_once(self) -> None:
        """Reset the connections that are open now; new ones pass."""
        self._call(self._cut, refuse=False)

    def black_hole(self, direction: Direction = "both") -> None:
        """Forward nothing and say nothing until :meth:`heal`, not even that a side has left.

        New connections are accepted, as by a network card, and then nothing comes through them.
        """
        self._each(direction, lambda weather: weather.is_open.clear())

    def strand(self) -> None:
        """Let nothing pass any more through the connections that are open now; new ones pass.

        Nobody is told, and :meth:`heal` does not bring them back: what a router does that forgot
        them, or a laptop that wakes up under another address.
        """
        self._call(self._strand)

    def half_close(self, direction: Direction = "down") -> None:
        """End one direction of the connections that are open now, in order; the other goes on."""
        self._call(self._half_close, direction)

    def delay(
        self, delay_s: float, *, jitter_s: float = 0.0, direction: Direction = "both"
    ) -> None:
        """Let every piece of up to 64 KiB take ``delay_s`` seconds and up to ``jitter_s`` more."""

        def change(weather: Weather) -> None:
            weather.delay_s, weather.jitter_s = delay_s, jitter_s

        self._each(direction, change)

    def throttle(self, bytes_per_s: float, *, direction: Direction = "both") -> None:
        """Let each connection pass so many bytes a second, and no more."""

        def change(weather: Weather) -> None:
            weather.bytes_per_s = bytes_per_s

        self._each(direction, change)

    def duplicate(
        self,
        every: int = 1,
        *,
        after: int = 0,
        where: Callable[[bytes], bool] | None = None,
        direction: Direction = "both",
    ) -> None:
        """Send every so many-th websocket message twice, on connections opened from now on.

        Messages, because TCP delivers no byte twice: what really comes twice is a message that
        was sent again after a cut. Compressed and fragmented messages come once.

        Args:
            every: 1 for all messages.
            after: The first so many messages of a connection come once: handshakes, for example.
            where: Looks at a payload; what it refuses comes once.
            direction: Of the messages.
        """
        rule = Rule(every, after, where)

        def change(weather: Weather) -> None:
            weather.duplicates = rule

        self._each(direction, change)

    def heal(self) -> None:
        """Pass everything again, undelayed and once; what a black hole held back goes on."""
        self._call(self._heal)

    # --- its life --------------------------------------------------------------------------------

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

        return asyncio.run_coroutine_threadsafe(on_the_loop(), self._loop).result(_CALL_S)

    def _each(self, direction: Direction, change: Callable[[Weather], None]) -> None:
        for name, weather in (("up", self._up), ("down", self._down)):
            if direction in (name, "both"):
                self._call(change, weather)

    # --- on the loop -----------------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        # Cancelled only by close(); asyncio would print that as an error of this callback.
        with suppress(asyncio.CancelledError):
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            reset(writer)
            return
        try:
            far = await asyncio.open_connection(*self.target)
        except OSError:
            reset(writer)
            return
        connection = Connection((reader, writer), far, self._up, self._down, self._count)
        self._connections.add(connection)
        try:
            await self._begin(reader, far[1])
            await connection.run()
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def _begin(self, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter) -> None:
        """For subclasses that add to what a client sends first."""

    def _count(self, direction: str, size: int) -> None:
        if direction == "up":
            self.bytes_up += size
        else:
            self.bytes_down += size

    def _cut(self, *, refuse: bool) -> None:
        self._refuses = refuse
        for connection in self._connections:
            connection.cut()

    def _strand(self) -> None:
        for connection in self._connections:
            connection.strand()

    def _half_close(self, direction: Direction) -> None:
        for connection in self._connections:
            for name in ("up", "down") if direction == "both" else (direction,):
                connection.half_close(name)

    def _heal(self) -> None:
        self._refuses = False
        self._up.clear_up()
        self._down.clear_up()

    async def _shut(self) -> None:
        self._server.close()
        self._cut(refuse=True)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
