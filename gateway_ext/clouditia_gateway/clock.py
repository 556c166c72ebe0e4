"""The time of day as the gateway stores, shows and judges it.

The system's clock may jump: an operator corrects it, a virtual machine wakes up, a battery is
empty. Nobody's key has expired because of that. So the time goes on steadily from what it was at
the start, and a jump is believed only when it has lasted for an hour.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: Corrections up to this size are followed at once: clocks are set right all the time.
FOLLOWED_S = 5.0
#: For how long a larger one must last before it is believed.
BELIEVED_AFTER_S = 3600.0


class TrustedClock:
    """Seconds since 1970 that do not jump with the system's clock.

    Args:
        wall_s: The system's clock now.
        steady_s: A clock that only goes on, now.
    """

    def __init__(self, wall_s: float, steady_s: float) -> None:
        self._offset_s = wall_s - steady_s
        self._jump_s = 0.0
        self._since_s = steady_s

    def read(self, wall_s: float, steady_s: float) -> float:
        """The time, given both clocks."""
        jump_s = wall_s - steady_s - self._offset_s
        is_small = abs(jump_s) <= FOLLOWED_S
        if abs(jump_s - self._jump_s) > FOLLOWED_S:
            self._jump_s, self._since_s = jump_s, steady_s  # another jump than the one before
        if is_small or steady_s - self._since_s >= BELIEVED_AFTER_S:
            self._offset_s += jump_s
            self._jump_s = 0.0
        return self._offset_s + steady_s


_clock = TrustedClock(time.time(), time.monotonic())


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.fromtimestamp(_clock.read(time.time(), time.monotonic()), UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and a ``Z``, as Jupyter's models have it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_now() -> str:
    """Now, as a string that sorts by time."""
    return iso(utc_now())
