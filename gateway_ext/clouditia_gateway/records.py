"""The gateway's value types: who asks, what a kernel is, and what its host last said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Principal:
    """The owner of the key that authenticated a request."""

    user: str
    key_id: str
    is_admin: bool = False
    is_read_only: bool = False


@dataclass(frozen=True)
class KernelRecord:
    """What the database knows about one kernel.

    Attributes:
        kernel_id: UUID, chosen by the gateway.
        owner: User whose key started it.
        name: Kernelspec name.
        display_name: Kernelspec display name at the time of the start.
        path: Path that the client gave, normalised, relative to the root directory.
        directory: The kernel's own directory, ``<state>/k/<8 hex>``.
        fence: Number of the newest host launch; older hosts are turned away.
        token_sha256: Hex digest of that host's token.
        engine_ref: The engine's reference to the host, JSON; empty before the launch returned.
        created_at: ISO 8601, UTC.
        ended_at: ISO 8601 once a shutdown was asked for (a tombstone until the host is gone).
    """

    kernel_id: str
    owner: str
    name: str
    display_name: str
    path: str
    directory: str
    fence: int
    token_sha256: str
    engine_ref: str
    created_at: str
    ended_at: str | None = None


@dataclass(frozen=True)
class HostState:
    """The STATE object of ``docs/host-protocol.md``, checked field by field."""

    epoch: int = 0
    execution_state: str = "starting"
    reason: str = ""
    last_activity: str = ""
    connections: int = 0
    pid: int | None = None
    exit: Mapping[str, Any] | None = None
    protocol_version: str | None = None
    ended_because: str = ""
    limits: Mapping[str, Any] | None = None
    ends_at: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the kernel was shut down for good, by whomever, and did not crash."""
        return self.execution_state == "dead" and self.reason == "ended"

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> HostState:
        """Build a state from a host's JSON; fields of a wrong type take their defaults."""
        fields: dict[str, Any] = {}
        for name, kinds in _STATE_FIELDS.items():
            value = wire.get(name)
            if isinstance(value, kinds) and not isinstance(value, bool):
                fields[name] = value
        return cls(**fields)


_STATE_FIELDS: dict[str, tuple[type, ...]] = {
    "epoch": (int,),
    "execution_state": (str,),
    "reason": (str,),
    "last_activity": (str,),
    "connections": (int,),
    "pid": (int,),
    "exit": (dict,),
    "protocol_version": (str,),
    "ended_because": (str,),
    "limits": (dict,),
    "ends_at": (str,),
}


@dataclass
class Presence:
    """What is known in memory about the host of one kernel; lost and learnt again on a restart."""

    state: HostState = field(default_factory=HostState)
    is_reachable: bool = False
    ignored_env: tuple[str, ...] = ()
