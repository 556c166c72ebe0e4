"""Where the audit log lies, and reading all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from clouditia.protocol.audit_chain import Head

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROTATED = re.compile(r"audit-(\d{12})\.jsonl")


class AuditFiles:
    """Paths of one state directory's audit log.

    ``audit.jsonl`` is written to, ``audit-<first number>.jsonl`` are older parts. ``audit.head``
    holds number and hash of the last line; a lock on it makes one writer at a time.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.current = directory / "audit.jsonl"
        self.head = directory / "audit.head"

    def rotated(self) -> list[Path]:
        """Older parts, oldest first."""
        return sorted(path for path in self.directory.iterdir() if _ROTATED.fullmatch(path.name))

    def name_for(self, first_number: int) -> Path:
        """What the current part is called once it is full."""
        return self.directory / f"audit-{first_number:012d}.jsonl"

    def kept_head(self) -> Head | None:
        """The head beside the log, or None."""
        try:
            return Head.decode(self.head.read_bytes())
        except OSError:
            return None

    def parts(self) -> list[Path]:
        """All parts that exist, oldest first."""
        return [*self.rotated(), *([self.current] if self.current.exists() else [])]


def whole_lines(paths: list[Path]) -> Iterator[bytes]:
    """The lines of these files without their ends; what follows the last end is left out."""
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]


def torn_bytes(path: Path) -> int:
    """How many bytes follow the last line's end."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0
    return len(raw) - (raw.rfind(b"\n") + 1)
