"""A client's connection to a stock kernel that stays: it reconnects until told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from clouditia.errors import ClouditiaError
from clouditia.protocol.messages import Message
from clouditia.transport.link_runner import TransportClosed
from clouditia.transport.retrying import Backoff, final_error
from clouditia.transport.stock_socket import StockSocket

__all__ = ["StockConnection"]

log = logging.getLogger("clouditia.link")


class StockConnection:
    """Keeps one kernel's websocket open for as long as :meth:`run` runs.

    Args:
        open_socket: Opens a fresh one; its ConnectionLostError means "try again later".
        next_message: The next message to send, or None; asked again after :meth:`wake`.
        on_message: Called for each message of the server, in order; must not block.
        on_online: Called each time that a connection is open, before its first message.
        on_offline: Called with the reason each time that an open connection has ended.
    """

    def __init__(
        self,
        open_socket: Callable[[], Awaitable[StockSocket]],
        *,
        next_message: Callable[[], Message | None],
        on_message: Callable[[Message], None],
        on_online: Callable[[], None],
        on_offline: Callable[[ClouditiaError], None],
    ) -> None:
        self._open_socket = open_socket
        self._next_message = next_message
        self._on_message = on_message
        self._on_online = on_online
        self._on_offline = on_offline
        self._backoff = Backoff()
        self._work = asyncio.Event()
        self._socket: StockSocket | None = None
        self._is_leaving = False
        self._starts_over = asyncio.Event()

    @property
    def is_online(self) -> bool:
        """Whether messages flow now."""
        return self._socket is not None

    def wake(self) -> None:
        """There may be something to send."""
        self._work.set()

    def hold(self, *, hold: bool) -> None:
        """Stop (or go on) reading from the server."""
        if self._socket is not None:
            self._socket.hold(hold=hold)

    def start_over(self) -> None:
        """Drop the connection and open another at once."""
        self._starts_over.set()

    def say_goodbye(self) -> None:
        """Leave for good: close properly, and let :meth:`run` return."""
        self._is_leaving = True
        self._starts_over.set()
        self._backoff.hurry()

    async def run(self) -> ClouditiaError:
        """Connect and reconnect until an error that reconnecting cannot mend; returns it.

        Cancel to stop at once.
        """
        while not self._is_leaving:
            ended = await self._run_once()
            if self._starts_over.is_set():
                continue
            final = final_error(ended)
            if final is not None:
                log.warning("connection ended: %s", final.code)
                return final
            log.info("down: %s; next attempt in about %.1f s", ended.code, self._backoff.delay_s)
            await self._backoff.pause()
        return TransportClosed("the connection was closed on this side", close_code=1000)

    async def _run_once(self) -> ClouditiaError:
        self._starts_over.clear()
        try:
            socket = await self._open_socket()
        except ClouditiaError as exc:
            return exc
        self._backoff.reset()
        self._socket = socket
        self._on_online()
        try:
            ended = await self._serve(socket)
        finally:
            self._socket = None
            await socket.close()
        self._on_offline(ended)
        return ended

    async def _serve(self, socket: StockSocket) -> ClouditiaError:
        closed: asyncio.Future[TransportClosed] = asyncio.get_running_loop().create_future()

        def on_closed(reason: TransportClosed) -> None:
            if not closed.done():
                closed.set_result(reason)

        def on_message(message: Message) -> None:
            if self._socket is socket:  # else it still came while the connection was being closed
                self._on_message(message)

        socket.attach(on_message, on_closed)
        writer = asyncio.create_task(self._write(socket))
        leaving = asyncio.create_task(self._starts_over.wait())
        try:
            ends: list[asyncio.Future[Any]] = [closed, writer, leaving]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                return await writer
            return closed.result() if closed.done() else TransportClosed("closed on this side")
        finally:
            writer.cancel()
            leaving.cancel()
            await asyncio.gather(writer, leaving, return_exceptions=True)

    async def _write(self, socket: StockSocket) -> TransportClosed:
        """Send until the connection is gone; what was being sent then is not sent again."""
        while True:
            self._work.clear()
            while (message := self._next_message()) is not None:
                try:
                    await socket.send(message)
                except TransportClosed as exc:
                    return exc
            await self._work.wait()
