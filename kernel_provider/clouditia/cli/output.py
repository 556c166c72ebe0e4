"""Standard output is data, standard error is talk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

__all__ = ["emit", "say", "table"]


def emit(args: argparse.Namespace, data: object, text: str) -> None:
    """Print a command's result: ``data`` under ``--json``, else ``text`` where there is any."""
    if args.json:
        print(json.dumps(data, indent=1, ensure_ascii=False))
    elif text:
        print(text)


def say(text: str) -> None:
    """Tell the person at the terminal something that no script reads."""
    print(text, file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; an empty string for no rows."""
    if not rows:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
