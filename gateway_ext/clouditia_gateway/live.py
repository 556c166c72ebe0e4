"""Open connections and the keys they were opened with, so that revoking a key closes them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from clouditia.errors import AuthenticationError

if TYPE_CHECKING:
    from clouditia_gateway.keys import KeyStore
    from clouditia_gateway.records import Principal

log = logging.getLogger("clouditia.gateway")

#: How often the keys of open connections are looked at; each look is one indexed read per key.
KEY_CHECK_EVERY_S = 2.0

#: Websocket close code for a key that is gone.
CLOSE_KEY_REVOKED = 4401

Close = Callable[[int, str], None]


class LiveConnections:
    """The open connections by key id; used from the event loop only."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[int, Close]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """How many connections are open."""
        return sum(len(closers) for closers in self._by_key.values())

    @property
    def key_ids(self) -> set[str]:
        """Ids of the keys that have an open connection."""
        return set(self._by_key)

    def register(self, principal: Principal, close: Close) -> Callable[[], None]:
        """Remember a connection.

        Args:
            principal: Who opened it.
            close: Called once with (websocket close code, reason) when the key is gone.

        Returns:
            Forgets the connection; call it when the connection ends. Idempotent.
        """
        number = next(self._numbers)
        self._by_key.setdefault(principal.key_id, {})[number] = close

        def unregister() -> None:
            closers = self._by_key.get(principal.key_id, {})
            closers.pop(number, None)
            if not closers:
                self._by_key.pop(principal.key_id, None)

        return unregister

    def close_key(self, key_id: str, reason: str) -> int:
        """Close every connection of one key; returns how many."""
        closers = self._by_key.pop(key_id, {})
        for close in closers.values():
            close(CLOSE_KEY_REVOKED, reason)
        return len(closers)


async def watch_keys(live: LiveConnections, keys: KeyStore) -> None:
    """Close the connections of keys that were revoked or expired, within 2 s; never returns."""
    while True:
        await asyncio.sleep(KEY_CHECK_EVERY_S)
        for key_id in live.key_ids:
            try:
                keys.principal_of(key_id)
            except AuthenticationError as exc:
                closed = live.close_key(key_id, exc.message)
                log.info("closed %d connections of key %s: %s", closed, key_id, exc.message)
