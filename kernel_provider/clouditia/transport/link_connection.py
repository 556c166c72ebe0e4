"""A client's link that stays: connects, resumes, and reconnects until told to stop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from clouditia.errors import ClouditiaError
from clouditia.protocol.link import Event, Link, Online, Outbox
from clouditia.protocol.messages import Buffer
from clouditia.transport.link_runner import FrameTransport, LinkRunner, TransportClosed
from clouditia.transport.retrying import Backoff, final_error

log = logging.getLogger("clouditia.link")


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
        self._backoff = Backoff()
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
        self._backoff.hurry()

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
            final = ended if self.link.is_closed else final_error(ended)
            if final is not None:
                log.warning("link ended: %s", final.code)
                return final
            log.info(
                "link down: %s; next attempt in about %.1f s", ended.code, self._backoff.delay_s
            )
            await self._backoff.pause()

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
            self._backoff.reset()
            self._on_event(event)
            self._on_online()
        else:
            self._on_event(event)
