"""``clouditia kernelspec``: write, list and remove kernelspecs of remote kernels."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clouditia.cli.app import Subparsers
from clouditia.cli.output import emit, say, table
from clouditia.embedded import resolve_target
from clouditia.errors import ClouditiaError
from clouditia.kernelspecs import (
    InstalledSpec,
    SyncReport,
    installed_specs,
    remove_specs,
    sync_specs,
)
from clouditia.rest import GatewayClient
from clouditia.settings import EMBEDDED, check_target_name, list_targets

__all__ = ["command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "kernelspec",
        help="write, list and remove kernelspecs",
        description="Kernelspecs make remote kernels appear in JupyterLab, VS Code and others.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    syncing = actions.add_parser("sync", help="write those of a gateway, remove those it lost")
    syncing.add_argument("--target", help="only this target; 'embedded' starts that gateway")
    syncing.add_argument(
        "--no-provisioner",
        action="store_true",
        help="write kernelspecs that a Python without Clouditia can list, too",
    )
    syncing.set_defaults(run=_sync)
    listing = actions.add_parser("list", help="show those that Clouditia wrote")
    listing.set_defaults(run=_list)
    removing = actions.add_parser("remove", help="remove kernelspecs that Clouditia wrote")
    which = removing.add_mutually_exclusive_group(required=True)
    which.add_argument("--target", help="all of this target")
    which.add_argument("--all", action="store_true", help="all")
    which.add_argument("--name", help="the kernelspec of this name")
    removing.set_defaults(run=_remove)


def _sync(args: argparse.Namespace) -> int:
    reports: dict[str, SyncReport] = {}
    failures: list[ClouditiaError] = []
    for name in _targets_to_sync(args.target):
        try:
            model = GatewayClient(resolve_target(name)).kernelspecs()
            reports[name] = sync_specs(name, model, provisioner=not args.no_provisioner)
        except ClouditiaError as exc:
            failures.append(exc)
    if failures and not reports:
        raise failures[0]
    emit(args, {name: asdict(report) for name, report in reports.items()}, "")
    for name, report in reports.items():
        say(
            f"{name}: {len(report.written)} written, {len(report.unchanged)} unchanged, "
            f"{len(report.removed)} removed"
        )
        for spec in sorted([*report.written, *report.unchanged]):
            say(f"  {spec}")
        for spec, why in report.skipped.items():
            say(f"  left out {spec}: {why}")
    for failure in failures:
        say(f"left out: {failure.message}")
    return failures[0].exit_code if failures else 0


def _targets_to_sync(name: str | None) -> list[str]:
    if name is not None:
        return [check_target_name(name)]
    names = [target.name for target in list_targets()]
    if not names or installed_specs(EMBEDDED):
        names.append(EMBEDDED)
    return names


def _list(args: argparse.Namespace) -> int:
    known = {target.name for target in list_targets()} | {EMBEDDED}
    specs = installed_specs()
    data = [
        {
            "name": spec.name,
            "target": spec.target,
            "kernel": spec.kernel,
            "display_name": spec.display_name,
            "path": str(spec.path),
            "state": _state(spec, known),
        }
        for spec in specs
    ]
    rows = [(spec.name, spec.display_name, _state(spec, known)) for spec in specs]
    emit(args, data, table(("NAME", "TITLE", "STATE"), rows))
    if not specs:
        say("No kernelspecs yet. Write some with: clouditia kernelspec sync")
    return 0


def _state(spec: InstalledSpec, known_targets: set[str]) -> str:
    if spec.target not in known_targets:
        return "its target is gone"
    return "ok" if spec.is_startable else "its program is gone"


def _remove(args: argparse.Namespace) -> int:
    specs = installed_specs(check_target_name(args.target) if args.target else None)
    if args.name:
        specs = [spec for spec in specs if spec.name == args.name.lower()]
    removed = remove_specs(specs)
    emit(args, {"removed": removed}, "")
    say(f"Removed {len(removed)} kernelspecs.")
    return 0
