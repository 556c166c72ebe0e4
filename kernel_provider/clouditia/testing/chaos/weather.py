"""How the network is in one direction: what a proxy's pumps look at before they pass something."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Literal

from clouditia.testing.chaos.duplicating import Rule

#: ``up`` is from the client to the target, ``down`` the way back.
Direction = Literal["up", "down", "both"]


@dataclass
class Weather:
    """One direction of all connections of a proxy.

    Attributes:
        is_open: Clear while the direction is a black hole.
        delay_s: Seconds that every piece takes.
        jitter_s: Up to so many seconds more, drawn for each piece; nothing overtakes.
        bytes_per_s: Rate of each connection; 0 for as fast as it goes.
        duplicates: Which websocket messages come twice, on connections that begin from now on.
    """

    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    duplicates: Rule | None = None

    def __post_init__(self) -> None:
        """Nothing is held yet."""
        self.is_open.set()

    def travel_s(self) -> float:
        """How long the next piece takes."""
        return self.delay_s + random.uniform(0, self.jitter_s)  # noqa: S311  (spreads delays)

    def clear_up(self) -> None:
        """As it was in the beginning."""
        self.delay_s = self.jitter_s = self.bytes_per_s = 0.0
        self.duplicates = None
        self.is_open.set()
