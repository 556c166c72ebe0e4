"""What ends a remote kernel, and what only lets go of it: the table of docs/architecture.md."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal, NamedTuple

__all__ = ["Ending", "Fate", "Occasion", "describe_death", "fate_of_kernel"]


class Occasion(Enum):
    """Why a bridge comes to its end."""

    SHUTDOWN_REQUEST = "the front end asked for a shutdown"
    TERMINATED = "SIGTERM"
    TOLD_TO_END = "the provisioner said: end"
    TOLD_TO_DETACH = "the provisioner said: detach"
    PARENT_GONE = "the front end's process is gone"
    GUEST_LEFT = "the front end lets go of a kernel that it only joined"
    KERNEL_DIED = "the kernel died"


class Fate(Enum):
    """What becomes of the kernel."""

    ENDED = "ended"
    KEPT = "kept"


class Ending(NamedTuple):
    """How a bridge ends.

    Attributes:
        exit_code: Of the process.
        state: For the state file: ``detached``, ``ended`` or ``died``.
        reason: In a sentence, for the state file.
        must_end_kernel: The kernel still has to be told.
    """

    exit_code: int
    state: str
    reason: str
    must_end_kernel: bool = False


def fate_of_kernel(
    occasion: Occasion,
    *,
    on_close: Literal["shutdown", "detach"],
    is_parent_alive: bool,
    is_guest: bool = False,
) -> Fate:
    """Whether the remote kernel ends with its bridge; never with that of a guest.

    An explicit wish decides alone. SIGTERM from a living parent is how VS Code closes a notebook,
    so it follows the target's ``on_close``; a parent that is gone wished for nothing. A kernel that
    died is like a closed one, where the front end will start a new bridge and forget this one.
    """
    if is_guest:
        return Fate.KEPT
    if occasion in (Occasion.SHUTDOWN_REQUEST, Occasion.TOLD_TO_END):
        return Fate.ENDED
    if occasion in (Occasion.TERMINATED, Occasion.KERNEL_DIED):
        return Fate.ENDED if is_parent_alive and on_close == "shutdown" else Fate.KEPT
    return Fate.KEPT


def describe_death(content: dict[str, Any]) -> tuple[str, str]:
    """Reason and last lines of stderr, from a ``kernel_exited`` notice."""
    reason = str(content.get("reason") or f"exit code {content.get('exit_code')}")
    return f"{Occasion.KERNEL_DIED.value}: {reason}", str(content.get("last_stderr") or "").rstrip()
