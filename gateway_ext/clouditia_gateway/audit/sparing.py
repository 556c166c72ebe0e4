"""How many refusals are worth a line of their own, so that guessing cannot fill the disk."""

from __future__ import annotations

REFUSALS_PER_MINUTE = 60


class Sparing:
    """A token bucket that counts what it leaves out; the caller says what time it is."""

    def __init__(self, per_minute: int = REFUSALS_PER_MINUTE) -> None:
        self._capacity = float(per_minute)
        self._tokens = self._capacity
        self._since: float | None = None
        self._left_out = 0

    def count(self, now: float) -> int | None:
        """Count one refusal.

        Returns:
            None if it gets no line; else how many got none since the last one that did.
        """
        if self._since is not None:
            gained = (now - self._since) * self._capacity / 60
            self._tokens = min(self._capacity, self._tokens + gained)
        self._since = now
        if self._tokens < 1:
            self._left_out += 1
            return None
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
