"""A token bucket per client address, and per key id, for failed logins."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_PER_MINUTE = 10
_MAX_NAMES = 4096


class FailureThrottle:
    """Allows :data:`FAILURES_PER_MINUTE` failures per name, then refuses for a while.

    A name is an address or a key id. Only failures cost tokens, so a valid key is never held up by
    somebody else's guesses. At most 4096 names are remembered; the one that failed longest ago is
    forgotten first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, name: str) -> float:
        """Count one failure; returns the seconds to wait (0 while failures are left)."""
        now = self._clock()
        tokens, since = self._buckets.pop(name, (float(FAILURES_PER_MINUTE), now))
        per_second = FAILURES_PER_MINUTE / 60
        tokens = min(float(FAILURES_PER_MINUTE), tokens + (now - since) * per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / per_second
        self._buckets[name] = (max(0.0, tokens - 1) if wait == 0 else tokens, now)
        if len(self._buckets) > _MAX_NAMES:
            self._buckets.popitem(last=False)
        return wait
