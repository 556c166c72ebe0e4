"""When a kernel that nobody uses is to be ended: idle culling and ``detached_ttl``. No I/O.

A kernel that works is used, and so is one with a client, unless the operator counts clients out.
Time in which the gateway is away does not count, because nobody could have come; after that there
is a grace. No kernel is ended without a warning that left time to keep it.

Times are seconds of a clock that only goes on. Both limits are off unless somebody has set them.
Source: docs/operations.md, "What ends a kernel".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

#: A warning comes this long before the end, or a quarter of a shorter limit.
WARNED_BEFORE_S = 600.0
#: What is left at least when the gateway is back, so that clients find their way.
GRACE_S = 300.0

IDLE, DETACHED = "cull_idle_timeout", "detached_ttl"


class Limit(NamedTuple):
    """One limit on the life of a kernel.

    Attributes:
        name: As operators and users write it.
        seconds: For how long nobody may use the kernel.
        counts_clients: Whether a client that is there uses it.
    """

    name: str
    seconds: float
    counts_clients: bool = True

    @property
    def warned_before_s(self) -> float:
        """How long before the end the warning comes."""
        return min(WARNED_BEFORE_S, self.seconds / 4)

    @property
    def grace_s(self) -> float:
        """What is left at least after an outage of the gateway."""
        return min(GRACE_S, self.seconds)


@dataclass(frozen=True)
class Policy:
    """What a gateway says about all its kernels; seconds, 0 for no limit."""

    cull_idle_timeout_s: float = 0.0
    cull_connected: bool = False
    detached_ttl_s: float = 0.0
    max_detached_ttl_s: float = 0.0

    @classmethod
    def from_wire(cls, wire: object) -> Policy:
        """From the ``limits`` of a gateway's welcome; what is missing or malformed is off."""
        fields: Mapping[str, Any] = wire if isinstance(wire, Mapping) else {}
        return cls(
            _seconds(fields.get("cull_idle_timeout_s")),
            fields.get("cull_connected") is True,
            _seconds(fields.get("detached_ttl_s")),
            _seconds(fields.get("max_detached_ttl_s")),
        )

    def to_wire(self) -> dict[str, Any]:
        """As :meth:`from_wire` reads it."""
        return asdict(self)

    def limits(self, own_ttl_s: float = 0.0) -> tuple[Limit, ...]:
        """The limits of a kernel, whose owner may have asked for a ``detached_ttl``."""
        found = []
        if self.cull_idle_timeout_s:
            found.append(Limit(IDLE, self.cull_idle_timeout_s, not self.cull_connected))
        ttl_s = own_ttl_s or self.detached_ttl_s or self.max_detached_ttl_s
        if ttl_s:
            found.append(Limit(DETACHED, min(ttl_s, self.max_detached_ttl_s or ttl_s)))
        return tuple(found)


NO_LIMITS = Policy()


class Warned(NamedTuple):
    """Tell the users: the kernel will be ended in ``left_s`` seconds."""

    limit: Limit
    left_s: float


class Overdue(NamedTuple):
    """End the kernel now."""

    limit: Limit


class Kept(NamedTuple):
    """It was about to be ended and is used again."""


class Lifespan:
    """Counts how long nobody has used a kernel.

    Args:
        now: The time.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._limits: tuple[Limit, ...] = ()
        self._unused_s: dict[str, float] = {}
        self._warned: set[str] = set()
        self._is_reachable = False
        self._was_used = False

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What may end the kernel."""
        return self._limits

    def set_limits(self, limits: tuple[Limit, ...]) -> None:
        """Others from now on; what was counted so far stays."""
        self._limits = limits
        names = {limit.name for limit in limits}
        self._warned &= names
        self._unused_s = {name: self._unused_s.get(name, 0.0) for name in names}

    def used(self) -> None:
        """A client asked for something, or the kernel said something."""
        self._was_used = True

    def look(
        self, now: float, *, is_busy: bool, clients: int, is_reachable: bool
    ) -> list[Warned | Overdue | Kept]:
        """Count the time since the last look; returns what follows from it.

        Args:
            now: The time.
            is_busy: Whether the kernel works, starts or restarts.
            clients: How many are connected.
            is_reachable: Whether the gateway is connected, so that clients could come.
        """
        passed_s, self._now = now - self._now, now
        counts = self._is_reachable and is_reachable
        is_back = is_reachable and not self._is_reachable
        was_used, self._was_used = self._was_used, False
        self._is_reachable = is_reachable
        said: list[Warned | Overdue | Kept] = []
        for limit in self._limits:
            if is_busy or was_used or (clients and limit.counts_clients):
                said.extend(self._reset(limit))
                continue
            if counts:
                self._unused_s[limit.name] += passed_s
            if is_back:
                self._leave(limit, limit.grace_s)
            if is_reachable:
                said.extend(self._judge(limit))
        return said

    def _reset(self, limit: Limit) -> list[Kept]:
        self._unused_s[limit.name] = 0.0
        if limit.name not in self._warned:
            return []
        self._warned.discard(limit.name)
        return [Kept()]

    def _leave(self, limit: Limit, left_s: float) -> None:
        """Make sure that there is so much time left."""
        unused_s = self._unused_s[limit.name]
        self._unused_s[limit.name] = min(unused_s, limit.seconds - left_s)

    def _judge(self, limit: Limit) -> list[Warned | Overdue]:
        left_s = limit.seconds - self._unused_s[limit.name]
        if limit.name in self._warned:
            return [Overdue(limit)] if left_s <= 0 else []
        if left_s > limit.warned_before_s:
            return []
        # However late this look comes: whoever is warned has the whole time to answer.
        self._warned.add(limit.name)
        self._leave(limit, limit.warned_before_s)
        return [Warned(limit, limit.warned_before_s)]


def unused(limit: Limit) -> str:
    """Why this limit ends a kernel."""
    whose = "its detached_ttl" if limit.name == DETACHED else "the gateway's cull_idle_timeout"
    nobody = " and no client" if limit.counts_clients else ""
    return f"it had no work{nobody} for a time; the limit is {duration(limit.seconds)} ({whose})"


def duration(seconds: float) -> str:
    """Such as ``90 s``, ``15 min`` or ``2.5 h``."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"


def _seconds(value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and value > 0 else 0.0  # type: ignore[operator,arg-type]  # a number
