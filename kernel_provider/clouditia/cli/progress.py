"""What a person sees while a notebook runs: a line per cell, and the cells' own output."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from clouditia.terminal_text import TerminalFilter

__all__ = ["Progress"]

_MAX_LINE = 60


class Progress:
    """Writes one line per cell to stderr, and the cells' text where it belongs.

    Args:
        total: Number of cells that will run.
        keep_stdout_clean: Send the cells' stdout to stderr, too.
    """

    def __init__(self, total: int, *, keep_stdout_clean: bool) -> None:
        self._total = total
        self._out: TextIO = sys.stderr if keep_stdout_clean else sys.stdout
        self._number = 0
        self._began = 0.0
        self._title = ""
        self._pending = False
        self._at_line_start = True
        self._filters: dict[TextIO, TerminalFilter] = {}

    def cell_started(self, source: str) -> None:
        """A cell begins; on a terminal its line stands there until it is done."""
        self._number += 1
        self._began = time.monotonic()
        self._title = source.strip().splitlines()[0][:_MAX_LINE]
        if sys.stderr.isatty():
            self._write(sys.stderr, f"[{self._number}/{self._total}]     …  {self._title}")
            self._pending = True

    def text(self, name: str, text: str) -> None:
        """A cell printed something."""
        self._clear()
        stream = sys.stderr if name == "stderr" else self._out
        if stream.isatty():
            text = self._filters.setdefault(stream, TerminalFilter()).feed(text)
        self._write(stream, text)

    def cell_done(self) -> None:
        """A cell is done, well or not."""
        self._clear()
        if not self._at_line_start:
            self._write(sys.stderr, "\n")
        seconds = time.monotonic() - self._began
        self._write(sys.stderr, f"[{self._number}/{self._total}] {seconds:.1f} s  {self._title}\n")

    def _clear(self) -> None:
        if self._pending:
            self._pending = False
            self._write(sys.stderr, "\r\x1b[K")
            self._at_line_start = True

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        stream.write(text)
        stream.flush()
        self._at_line_start = text.endswith("\n")
