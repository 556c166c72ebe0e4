"""What the bridge tells the person: single lines on stderr, which front ends show or log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["OfflineNotice", "tell"]

_OFFLINE_NOTICE_AFTER_S = 30.0


def tell(text: str) -> None:
    """Write to stderr; a closed one is no reason to end."""
    try:
        sys.stderr.write(f"clouditia-kernel: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


class OfflineNotice:
    """One line after a while without the gateway, and one when it is back.

    Args:
        loop: Whose clock counts.
        gateway: How the gateway is called in the lines.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, gateway: str) -> None:
        self._loop = loop
        self._gateway = gateway
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._is_told = False

    def offline(self) -> None:
        """The link went down, or is not up yet."""
        if self._timer is None:
            self._since = time.monotonic()
            self._timer = self._loop.call_later(_OFFLINE_NOTICE_AFTER_S, self._tell)

    def online(self) -> None:
        """The link is up."""
        self.cancel()
        if self._is_told:
            self._is_told = False
            tell(f"{self._gateway} is back after {time.monotonic() - self._since:.0f} s.")

    def cancel(self) -> None:
        """Say nothing more about this outage."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self._is_told = True
        tell(
            f"{self._gateway} has not been reachable for {_OFFLINE_NOTICE_AFTER_S:.0f} s; the "
            "kernel is not affected, its output will follow. Trying again until it is back."
        )
