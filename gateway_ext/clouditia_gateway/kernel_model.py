"""How a kernel looks to clients: the Jupyter kernel model with a ``clouditia`` part."""

from __future__ import annotations

from typing import Any

from clouditia_gateway.records import KernelRecord, Presence


def kernel_model(record: KernelRecord, presence: Presence) -> dict[str, Any]:
    """The model of a kernel.

    A kernel whose host is away is shown as busy: it may be computing, and nobody can tell.
    """
    state = presence.state
    shown = state.execution_state
    if not presence.is_reachable and shown not in ("starting", "dead"):
        shown = "busy"
    return {
        "id": record.kernel_id,
        "name": record.name,
        "last_activity": state.last_activity or record.created_at,
        "execution_state": shown,
        "connections": state.connections,
        "clouditia": {
            "epoch": state.epoch,
            "reachable": presence.is_reachable,
            "owner": record.owner,
            "path": record.path,
            "display_name": record.display_name,
            "created_at": record.created_at,
            "reason": state.reason,
            "exit": None if state.exit is None else dict(state.exit),
            "ignored_env": list(presence.ignored_env),
            "limits": None if state.limits is None else dict(state.limits),
            "ends_at": state.ends_at,
        },
    }
