"""Which remote kernel belongs to which notebook of this machine, so that it is found again.

A remote kernel outlives the local Jupyter server. One small file per notebook in the state folder
says which kernel it had; whoever opens the notebook next gets that kernel if it still exists. The
absolute path is part of the key, so that two folders with an ``Untitled.ipynb`` do not share one;
the files stay on this machine, so that nobody else does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from clouditia.errors import ConfigError
from clouditia.settings import state_dir, write_private

__all__ = ["NotebookKey"]


class NotebookKey(NamedTuple):
    """A notebook on a kernelspec of a target.

    Attributes:
        target: Name of the target.
        kernel: Kernelspec on the gateway.
        notebook: Absolute path; a front end that has none (nbclient, console) is not remembered.
    """

    target: str
    kernel: str
    notebook: str

    @property
    def is_lasting(self) -> bool:
        """Whether there is a notebook to remember by."""
        return Path(self.notebook).is_absolute()

    def recall(self) -> str | None:
        """Id of the kernel that the notebook had, if that is known."""
        if not self.is_lasting:
            return None
        try:
            fields = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        kernel_id = fields.get("kernel_id") if isinstance(fields, dict) else None
        return kernel_id if isinstance(kernel_id, str) and kernel_id else None

    def remember(self, kernel_id: str) -> None:
        """Note the notebook's kernel; where that cannot be written, it is not found again."""
        if self.is_lasting:
            content = json.dumps({**self._asdict(), "kernel_id": kernel_id}, indent=2)
            with contextlib.suppress(ConfigError):
                write_private(self._path, content + "\n")

    def forget(self) -> None:
        """The notebook has no kernel any more."""
        if self.is_lasting:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        digest = hashlib.sha256("\0".join(self).encode("utf-8", "surrogatepass")).hexdigest()
        return state_dir() / "notebooks" / f"{digest[:32]}.json"
