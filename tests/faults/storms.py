"""What happens to a connection while a cell prints: many short cuts, one long one, or silence."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
#: A front end must go on this soon after the network is back, and say this soon that it is not.
RESUME_S, TOLD_S = 2.0, 3.0
_never = threading.Event()


@dataclass
class Storm:
    """Breaks one proxy's connections, in a thread of its own, from the first line on.

    Attributes:
        cuts: How many resets fall on open connections.
        outage_s: How long the one outage in the middle lasts; 0 for none.
        is_silent: The outage is a black hole and no cut.
        clients: Connections that must be open for the next cut.
        broken_at: When the outage began, on the monotonic clock.
        healed_at: When it ended.
        ended_at: When all was over.
    """

    cuts: int = 50
    outage_s: float = 5.0
    is_silent: bool = False
    clients: int = 1
    broken_at: float = 0.0
    healed_at: float = 0.0
    ended_at: float = 0.0
    done: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(4140))

    def rage(self, proxy: ChaosProxy, has_begun: Callable[[], bool], over: Path) -> None:
        """Do it all; touches ``over`` at the end, for which the cell waits with its last line."""
        try:
            wait_until(has_begun, WAIT_S, what="the first lines")
            for number in range(self.cuts + 1):
                self._wait_connected(proxy)
                if self.outage_s and number == self.cuts // 2:
                    self._outage(proxy)
                    self._wait_connected(proxy)
                if number < self.cuts:
                    _never.wait(self._random.uniform(0.0, 0.1))
                    proxy.cut_once()
                    self.done += 1
        finally:
            proxy.heal()
            self.ended_at = time.monotonic()
            over.touch()

    def _wait_connected(self, proxy: ChaosProxy) -> None:
        wait_until(
            lambda: proxy.connections >= self.clients,
            WAIT_S,
            what=f"{self.clients} clients are back",
            interval_s=0.005,
        )

    def _outage(self, proxy: ChaosProxy) -> None:
        self.broken_at = time.monotonic()
        (proxy.black_hole if self.is_silent else proxy.cut)()
        _never.wait(self.outage_s)  # this is the fault itself
        proxy.heal()
        self.healed_at = time.monotonic()

    def resumed_after_s(self, arrivals: list[float]) -> float:
        """Seconds from the end of the outage to the first output that came after it."""
        return min(at for at in arrivals if at >= self.healed_at) - self.healed_at

    def told_after_s(self, told: list[float]) -> float:
        """Seconds from the beginning of the outage to the first word about it."""
        return min(at for at in told if at >= self.broken_at) - self.broken_at
