"""Orders of the provisioner: lines on stdin, whose end means that the provisioner is gone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DETACH", "END", "END_OF_INPUT", "INTERRUPT", "RESTART", "read_commands"]

DETACH, END, INTERRUPT, RESTART = "detach", "end", "interrupt", "restart"
END_OF_INPUT = ""


def read_commands(on_command: Callable[[str], None], *, descriptor: int = 0) -> None:
    """Read lines in a daemon thread until the end of input.

    A thread, because no event loop can watch a pipe on Windows; ``os.read``, because a thread that
    waits in ``sys.stdin`` holds a lock that the interpreter wants when it ends.

    Args:
        on_command: Called in that thread with each line, and with :data:`END_OF_INPUT` at the end.
        descriptor: File descriptor to read.
    """

    def run() -> None:
        rest = b""
        while True:
            try:
                chunk = os.read(descriptor, 4096)
            except OSError:
                chunk = b""
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                command = line.strip().decode("ascii", "replace")
                if command:
                    on_command(command)
        on_command(END_OF_INPUT)

    threading.Thread(target=run, name="clouditia-stdin", daemon=True).start()
