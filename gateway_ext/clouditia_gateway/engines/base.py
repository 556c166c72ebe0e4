"""What the gateway asks of an engine: launch a kernel host, say how it is, stop it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class HostSpec:
    """A host to launch.

    Attributes:
        kernel_id: The kernel that it serves.
        fence: Number of this launch.
        directory: The kernel's directory, holding ``launch.json``.
        environment: The host's own environment (the kernel's stands in ``launch.json``).
    """

    kernel_id: str
    fence: int
    directory: Path
    environment: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class HostRef:
    """How the engine finds a host again, also after the gateway was restarted.

    Attributes:
        directory: The kernel's directory.
        token: The engine's own words, JSON; empty when a crash came between launch and record.
    """

    directory: Path
    token: str


class HostHealth(Enum):
    """What can be said about a host process."""

    ALIVE = "alive"
    DEAD = "dead"
    #: The engine cannot tell now; nothing may be concluded from it.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HostStatus:
    """Health of a host, and for a dead one why, as far as is known."""

    health: HostHealth
    reason: str = ""


class Engine(Protocol):
    """Launches kernel hosts somewhere. All calls may be repeated."""

    async def launch(self, spec: HostSpec) -> HostRef:
        """Start a host; returns when its process exists.

        Raises:
            ClouditiaError: it could not be started; nothing is left of it.
        """
        ...

    async def status(self, ref: HostRef) -> HostStatus:
        """Whether the host lives. ``DEAD`` only on evidence."""
        ...

    async def stop(self, ref: HostRef) -> None:
        """Kill the host and what is left of its kernel; returns when they are gone."""
        ...
