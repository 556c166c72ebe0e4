"""What the provisioner may know about the bridge: a small file beside the connection file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clouditia.atomic_files import write_private

__all__ = ["StateFile"]


class StateFile:
    """``<connection file>.clouditia``: kernel id, epoch and state, replaced as a whole (0600).

    Args:
        connection_file: The front end's connection file.
    """

    def __init__(self, connection_file: Path) -> None:
        self._path = Path(f"{connection_file}.clouditia")
        self._written: dict[str, object] | None = None

    def write(self, *, kernel_id: str, epoch: int | None, state: str, reason: str = "") -> None:
        """Replace the file where something has changed.

        Args:
            kernel_id: The remote kernel.
            epoch: Its epoch, once known.
            state: ``starting``, ``running``, ``detached``, ``ended`` or ``died``.
            reason: Why, in a sentence.
        """
        fields: dict[str, object] = {
            "kernel_id": kernel_id,
            "pid": os.getpid(),
            "epoch": epoch,
            "state": state,
            "reason": reason,
        }
        if fields == self._written:
            return
        try:
            write_private(self._path, json.dumps(fields))
        except OSError:
            # Front ends delete their runtime folder while we are still leaving; the file is a
            # convenience for the provisioner, the bridge works without it.
            return
        self._written = fields
