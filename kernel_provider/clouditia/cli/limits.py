"""What people are told about kernels that a gateway ends when nobody uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clouditia.cli.output import say
from clouditia.errors import ClouditiaError
from clouditia.rest import GatewayClient
from clouditia.settings import Target

__all__ = ["lifetime", "tell_endings", "tell_policy"]


def lifetime(model: dict[str, Any]) -> str:
    """When this kernel ends if nobody uses it; empty where no limit is set."""
    ours = model.get("clouditia")
    if not isinstance(ours, dict):
        return ""
    if ours.get("ends_at"):
        return f"at {str(ours['ends_at'])[:19].replace('T', ' ')}"
    limits = ours.get("limits")
    seconds = [value for value in limits.values() if value] if isinstance(limits, dict) else []
    return f"after {_duration(min(seconds))} unused" if seconds else ""


def tell_policy(info: dict[str, Any]) -> None:
    """Say what the gateway ends, if it ends anything."""
    if info.get("ends_kernels"):
        say(f"Note: {info['ends_kernels']}.")


def tell_endings(targets: Iterable[Target]) -> None:
    """Say which kernels of this user were ended by a limit, and why."""
    for target in targets:
        for ending in _endings(target):
            path = f" ({ending['path']})" if ending.get("path") else ""
            ended_at = str(ending.get("ended_at"))[:19].replace("T", " ")
            say(f"ended {ending.get('id')}{path} on {target.name} at {ended_at}: "
                f"{ending.get('reason')}")  # fmt: skip


def _endings(target: Target) -> list[dict[str, Any]]:
    if target.kind == "plain":
        return []
    try:
        found = GatewayClient(target).info().get("ended")
    except ClouditiaError:
        return []  # the list above has said that it does not answer
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
