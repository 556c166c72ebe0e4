"""Standard output is data, standard error is talk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from clouditia.terminal_text import json_for_terminal, visible

__all__ = ["emit", "say", "table"]

_MAX_CELL_CHARS = 200


def emit(args: argparse.Namespace, data: object, text: str) -> None:
    """Print a command's result: ``data`` under ``--json``, else ``text`` where there is any."""
    if args.json:
        print(json_for_terminal(json.dumps(data, indent=1, ensure_ascii=False)))
    elif text:
        print(visible(text, limit=len(text), keep_lines=True))


def say(text: str) -> None:
    """Tell the person at the terminal something that no script reads."""
    print(visible(text, keep_lines=True), file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; an empty string for no rows."""
    if not rows:
        return ""
    rows = [[visible(cell, limit=_MAX_CELL_CHARS) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
