"""The ``clouditia`` command: one file per command, each loaded only when it is used."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (the table of :mod:`clouditia.errors`)."""
    from clouditia.cli.app import run_command

    return run_command(argv)
