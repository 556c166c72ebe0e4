"""A client's link that stays: connects, resumes, and reconnects until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    ConnectionLostError,
    KernelNotFound,
    PermissionDeniedError,
    ProtocolError,
)
from clouditia.protocol.link import Event, Link, Online, Outbox
from clouditia.protocol.messages import Buffer
from clouditia.transport.link_runner import FrameTransport, LinkRunner, TransportClosed

log = logging.getLogger("clouditia.link")

_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 10.0
#: Websocket close codes after which trying again is no use, and what they mean.
_FINAL_CLOSE_CODES: dict[int, type[ClouditiaError]] = {
    4401: AuthenticationError,
    4403: PermissionDeniedError,
    4404: KernelNotFound,
    4410: KernelNotFound,
    4001: ConnectionLostError,  # another connection took this client's place
}
_FINAL_ERRORS = (
    AuthenticationError,
    PermissionDeniedError,
    KernelNotFound,
    ConfigError,
    ProtocolError,
)


class LinkConnection:
    """Keeps a client link connected for as long as :meth:`run` runs.

    Args:
        connect: Opens a fresh transport; its ConnectionLostError means "try again later".
        link: A client link; its outbox is ``outbox``.
        outbox: Where :meth:`send` puts messages; they wait here while there is no connection.
        on_event: Called for each event of the link, in order; must not block.
        on_online: Called after each successful handshake.
        on_offline: Called with the reason each time a working connection ends.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[FrameTransport]],
        link: Link,
        outbox: Outbox,
        *,
        on_event: Callable[[Event], None],
        on_online: Callable[[], None] = lambda: None,
        on_offline: Callable[[ClouditiaError], None] = lambda reason: None,
    ) -> None:
        self._connect = connect
        self._outbox = outbox
        self._on_event = on_event
        self._on_online = on_online
        self._on_offline = on_offline
        self._runner = LinkRunner(link, on_event=self._handle)
        self._delay_s = _FIRST_DELAY_S
        self._hurry = asyncio.Event()
        self.link = link
        self.is_online = False

    def send(self, parts: list[Buffer]) -> int:
        """Queue one message for the host; returns its number. Kept until the host has it."""
        seq = self._outbox.append(parts)
        self._runner.wake()
        return seq

    def handled(self, seq: int) -> None:
        """The application is done with every message up to ``seq``."""
        self.link.handled(seq)
        self._runner.wake()

    def hurry(self) -> None:
        """Try to connect now instead of waiting out the delay, as after a wake-up from sleep."""
        self._hurry.set()

    def say_goodbye(self) -> None:
        """Leave for good: the host hears it if it can be reached now, and :meth:`run` returns."""
        self.link.say_goodbye()
        self._runner.wake()
        self.hurry()

    async def run(self) -> ClouditiaError:
        """Connect and reconnect until an error that reconnecting cannot mend; returns it.

        Cancel to stop; the connection is closed then. The host keeps what it knows of this client
        unless :meth:`say_goodbye` came first.
        """
        while True:
            ended = await self._run_once()
            final = ended if self.link.is_closed else _final(ended)
            if final is not None:
                log.warning("link ended: %s", final.code)
                return final
            log.info("link down: %s; next attempt in about %.1f s", ended.code, self._delay_s)
            await self._wait()

    async def _run_once(self) -> ClouditiaError:
        try:
            transport = await self._connect()
        except ClouditiaError as exc:
            return exc
        if self.link.is_closed:
            await transport.close()
            return TransportClosed("the link was closed on this side", close_code=1000)
        ended = await self._runner.run(transport)
        if self.is_online:
            self.is_online = False
            self._on_offline(ended)
        return ended

    def _handle(self, event: Event) -> None:
        if isinstance(event, Online):
            self.is_online = True
            self._delay_s = _FIRST_DELAY_S
            self._on_event(event)
            self._on_online()
        else:
            self._on_event(event)

    async def _wait(self) -> None:
        delay = self._delay_s * random.uniform(0.5, 1.0)  # noqa: S311  (spreads reconnects)
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay)


def _final(ended: ClouditiaError) -> ClouditiaError | None:
    """The error to give up with, or None to try again."""
    if isinstance(ended, TransportClosed):
        kind = _FINAL_CLOSE_CODES.get(ended.close_code)
        return kind(ended.message) if kind is not None else None
    if isinstance(ended, _FINAL_ERRORS):
        return ended
    if isinstance(ended, ConnectionLostError) and ended.retryable:
        return None
    return ended
