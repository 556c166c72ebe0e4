"""The host's log: ``host.log`` in the kernel's directory, one old file kept."""

from __future__ import annotations

import logging
import os
from pathlib import Path

MAX_BYTES = 1024 * 1024


class HostLog(logging.Handler):
    """Appends to a file and renames it when it is full.

    The process's own stdout and stderr follow, so that a crash of the interpreter is found there.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor = self._open()

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        return descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a full disk loses it."""
        try:
            if os.fstat(self._descriptor).st_size > self._max_bytes:
                self._path.replace(self._path.with_suffix(".log.1"))
                os.close(self._descriptor)
                self._descriptor = self._open()
            os.write(self._descriptor, (self.format(record) + "\n").encode())
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """There is no other place to say it."""


def configure(path: Path) -> None:
    """Log to ``path``: one line per connect, disconnect, launch and exit; never payload."""
    handler = HostLog(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("clouditia").setLevel(logging.INFO)
