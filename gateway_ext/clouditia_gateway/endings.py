"""Why kernels are gone that nobody has shut down by hand: told to whoever asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clouditia.errors import KernelNotFound

if TYPE_CHECKING:
    from clouditia_gateway.records import Principal
    from clouditia_gateway.store import Store

#: How many are shown in a list.
_SHOWN = 20


def not_found(store: Store, kernel_id: str, principal: Principal) -> KernelNotFound:
    """That there is no such kernel, with the reason where a limit has ended it."""
    ending = store.ending(kernel_id)
    if ending is None or not (principal.is_admin or ending.owner == principal.user):
        return KernelNotFound(
            f"there is no kernel {kernel_id[:64]}",
            hint="It may have been shut down; clouditia kernels list shows yours.",
        )
    return KernelNotFound(
        f"the kernel {kernel_id} was ended at {ending.ended_at[:19]}Z: {ending.reason}",
        hint="Its variables and its output are gone; start a new one.",
        details={"ended_at": ending.ended_at},
    )


def recent(store: Store, principal: Principal) -> list[dict[str, Any]]:
    """The kernels of this user that a limit has ended lately, newest first."""
    return [
        {
            "id": ending.kernel_id,
            "name": ending.name,
            "path": ending.path,
            "ended_at": ending.ended_at,
            "reason": ending.reason,
        }
        for ending in store.endings(principal.user, _SHOWN)
    ]
