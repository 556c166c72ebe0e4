"""``clouditia run``: a notebook or a script on a remote kernel, from start to end."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia.atomic_files import write_atomically
from clouditia.cli.app import Subparsers
from clouditia.cli.choosing import target_to_run_on
from clouditia.cli.output import emit, say
from clouditia.embedded import resolve_target
from clouditia.errors import ConfigError

if TYPE_CHECKING:
    from clouditia.cli.notebook_run import NotebookRun
    from clouditia.settings import Target

__all__ = ["command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="run a notebook or a script on a remote kernel",
        description="Run a notebook or a Python script on a new remote kernel, show what it "
        "prints, and end the kernel. The executed notebook is written even if a cell fails; "
        "then the exit code is 8.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a .ipynb or .py file")
    parser.add_argument("--target", help="gateway to run on; 'embedded' starts one on this machine")
    parser.add_argument("--kernel", default="python3", help="kernelspec on the gateway")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="where the executed notebook goes (default: FILE.executed.ipynb; none for a script)",
    )
    parser.add_argument(
        "--timeout", type=float, help="seconds that one cell may take (default: no limit)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    source, output = _files(args)
    target = resolve_target(target_to_run_on(args.target))
    say(f"starting kernel {args.kernel!r} on {target.name} ({target.url})")
    run = _make_run(args, source, target.name)
    began = time.monotonic()
    try:
        asyncio.run(run.execute())
    finally:
        seconds = time.monotonic() - began
        if run.has_run:
            say(f"ran on {target.name} ({target.url}), {run.where.sentence}, {seconds:.1f} s")
            if output is not None:
                _write(run, output)
                say(f"wrote {output}")
    emit(args, _data(args, run, target, output, seconds), "")
    return 0


def _files(args: argparse.Namespace) -> tuple[Path, Path | None]:
    source: Path = args.file
    if source.suffix not in (".ipynb", ".py"):
        raise ConfigError(f"{source} is neither a notebook (.ipynb) nor a script (.py)")
    if not source.is_file():
        raise ConfigError(f"there is no file {source}")
    output: Path | None = args.output
    if output is None and source.suffix == ".ipynb":
        output = source.with_suffix(".executed.ipynb")
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"the folder {output.absolute().parent} for the result does not exist")
    return source, output


def _make_run(args: argparse.Namespace, source: Path, target: str) -> NotebookRun:
    try:
        from clouditia.cli.notebook_run import NotebookRun, read_source
    except ImportError as exc:
        raise ConfigError(
            f"running notebooks needs {exc.name}, which is not installed",
            hint="Install with: pip install 'clouditia[run]'",
        ) from exc
    return NotebookRun(
        read_source(source),
        target=target,
        kernel=args.kernel,
        timeout=args.timeout,
        keep_stdout_clean=args.json,
    )


def _write(run: NotebookRun, output: Path) -> None:
    try:
        if output.exists() and not output.is_file():
            output.write_text(run.text(), encoding="utf-8")  # a pipe or a terminal has no old form
        else:
            write_atomically(output, run.text())
    except OSError as exc:
        raise ConfigError(f"{output} cannot be written: {exc.strerror}") from exc


def _data(
    args: argparse.Namespace,
    run: NotebookRun,
    target: Target,
    output: Path | None,
    seconds: float,
) -> dict[str, Any]:
    return {
        "file": str(args.file),
        "output": str(output) if output else None,
        "target": target.name,
        "url": target.url,
        "kernel_id": run.where.kernel_id,
        "host": run.where.host,
        "gpu": run.where.gpu,
        "cells": run.cells_run,
        "seconds": round(seconds, 3),
    }
