"""The parent watch for Windows, where an orphan keeps the number of its dead parent."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["WindowsWatch"]

_SYNCHRONIZE = 0x00100000
_WAIT_OBJECT_0 = 0


class WindowsWatch:
    """Holds a handle of the parent, so that its number cannot be given to another process.

    Args:
        pid: The parent at start.
    """

    def __init__(self, pid: int) -> None:
        # Written so that type checkers of every platform accept it.
        self._kernel32: Any = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009
        self._kernel32.OpenProcess.restype = ctypes.c_void_p
        self._handle = self._kernel32.OpenProcess(_SYNCHRONIZE, False, pid)  # noqa: FBT003

    def is_alive(self) -> bool:
        """Whether the parent still runs; True where Windows does not let us look."""
        if not self._handle:
            return True
        wait = self._kernel32.WaitForSingleObject
        return bool(wait(ctypes.c_void_p(self._handle), 0) != _WAIT_OBJECT_0)
