"""``clouditia gateway backup|restore``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia_gateway.backup import write_backup
from clouditia_gateway.config import default_state_dir
from clouditia_gateway.restore import RestoredKernel, RestoreReport, restore
from clouditia_gateway.state_dir import StateDir

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]  # noqa: SLF001  (argparse names it in no other way)


def add_backup(actions: Subparsers) -> None:
    """Add ``backup``."""
    parser = actions.add_parser(
        "backup",
        help="copy the state directory into one file, also while the gateway runs",
        description="Copies keys, kernels and sessions, as of one moment, and what each kernel was "
        "launched with. The file holds secrets; only its owner may read it.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a new file, for example lab.tar")
    parser.add_argument("--state-dir", type=Path, help="the gateway's state directory")
    parser.add_argument(
        "--journals", action="store_true", help="with the output of all kernels (up to 1 GiB each)"
    )
    parser.set_defaults(run=_backup)


def add_restore(actions: Subparsers) -> None:
    """Add ``restore``."""
    parser = actions.add_parser(
        "restore",
        help="make a state directory of a backup",
        description="Restores into a new or an empty directory; nothing is ever overwritten.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="what `gateway backup` wrote")
    parser.add_argument("--state-dir", type=Path, required=True, help="where to")
    parser.add_argument(
        "--keep-kernels",
        action="store_true",
        help="into a directory whose database is gone; kernels that run there are taken over",
    )
    parser.set_defaults(run=_restore)


def _backup(args: argparse.Namespace) -> int:
    state = StateDir(args.state_dir or default_state_dir())
    report = write_backup(state, args.file, with_journals=args.journals)
    if args.json:
        print(json.dumps(report._asdict() | {"path": str(report.path)}))
        return 0
    journals = "with their output" if report.has_journals else "without their output (--journals)"
    print(
        f"{report.path}: {report.kernels} kernels, {journals}; {report.size_bytes} bytes. "
        "It holds keys: keep it where only you can read it.",
        file=sys.stderr,
    )
    return 0


def _restore(args: argparse.Namespace) -> int:
    state = StateDir(args.state_dir)
    report = restore(args.file, state, keep_kernels=args.keep_kernels)
    if args.json:
        kernels = [kernel._asdict() for kernel in report.kernels]
        print(json.dumps(report._asdict() | {"kernels": kernels}))
        return 0
    for kernel in report.kernels:
        print(f"{kernel.kernel_id}  {kernel.owner}  {kernel.display_name}  {_fate(kernel, report)}")
    print(
        f"Restored the backup of {report.created_at} to {state.path}. "
        f"Start it: clouditia gateway start --state-dir {state.path}",
        file=sys.stderr,
    )
    return 0


def _fate(kernel: RestoredKernel, report: RestoreReport) -> str:
    if kernel.is_running:
        return "runs; newer than the backup" if kernel.is_newer else "runs"
    return "ended" if report.has_journals else "ended; its output is not in the backup"
