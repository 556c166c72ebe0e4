"""Whether the process that started the bridge is still there."""

from __future__ import annotations

import os
import sys
from typing import Protocol

__all__ = ["ParentWatch", "watch_parent"]


class ParentWatch(Protocol):
    """Knows one process, the bridge's parent at start."""

    def is_alive(self) -> bool:
        """Whether that process still runs."""
        ...


class _PosixWatch:
    """An orphan gets another parent at once; ``JPY_PARENT_PID`` may name a further ancestor."""

    def __init__(self, named_pid: int | None) -> None:
        self._parent = os.getppid()
        self._named = named_pid if named_pid is not None and _exists(named_pid) else None

    def is_alive(self) -> bool:
        if os.getppid() != self._parent:
            return False
        return self._named is None or _exists(self._named)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def watch_parent() -> ParentWatch:
    """Start knowing the parent; call it early."""
    if sys.platform == "win32":
        from clouditia.bridge.parent_windows import WindowsWatch

        return WindowsWatch(os.getppid())
    else:  # noqa: RET505  (a type checker for Windows takes what follows a return for dead)
        named = os.environ.get("JPY_PARENT_PID", "")
        pid = int(named) if named.isdigit() and int(named) > 1 else None
        return _PosixWatch(pid)
