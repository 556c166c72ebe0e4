"""``clouditia kernelspec``: write, list and remove kernelspecs of remote kernels."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clouditia.attach_specs import has_ended, remove_ended, write_attach_spec
from clouditia.cli.app import Subparsers
from clouditia.cli.choosing import find_kernel, known_targets
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

_LOOK_TIMEOUT_S = 5.0

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
    _add_no_provisioner(syncing)
    syncing.set_defaults(run=_sync)
    joining = actions.add_parser(
        "attach",
        help="write one that joins a running kernel",
        description="Write a kernelspec that joins a running kernel: for VS Code, a console, a "
        "notebook run headless, or a second laptop. Opening it finds the variables; closing it, or "
        "shutting it down, only lets go of the kernel.",
    )
    joining.add_argument("kernel", metavar="KERNEL", help="its id, the beginning of it, or its URL")
    joining.add_argument("--target", help="only look on this target")
    joining.add_argument(
        "--name",
        help="of the kernelspec (default: clouditia-TARGET-attach-ID, 8 letters of the id)",
    )
    _add_no_provisioner(joining)
    joining.set_defaults(run=_attach)
    listing = actions.add_parser("list", help="show those that Clouditia wrote")
    listing.set_defaults(run=_list)
    removing = actions.add_parser("remove", help="remove kernelspecs that Clouditia wrote")
    which = removing.add_mutually_exclusive_group(required=True)
    which.add_argument("--target", help="all of this target")
    which.add_argument("--all", action="store_true", help="all")
    which.add_argument("--name", help="the kernelspec of this name")
    removing.set_defaults(run=_remove)


def _add_no_provisioner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-provisioner",
        action="store_true",
        help="write kernelspecs that a Python without Clouditia can list, too",
    )


def _attach(args: argparse.Namespace) -> int:
    kernel = find_kernel(args.kernel, args.target)
    spec = write_attach_spec(
        kernel.client(),
        kernel.target.name,
        kernel.model,
        name=args.name,
        provisioner=not args.no_provisioner,
    )
    data = {"name": spec.name, "display_name": spec.display_name, "kernel_id": spec.kernel_id}
    emit(args, {"target": spec.target, **data}, "")
    say(f"Wrote the kernelspec {spec.name}, in menus {spec.display_name!r}.")
    say(f"  a terminal: jupyter console --kernel {spec.name}")
    say("  VS Code, JupyterLab: choose it as the kernel of a notebook")
    say("Closing it lets go of the kernel. Once that has ended, 'kernelspec sync' removes this.")
    return 0


def _sync(args: argparse.Namespace) -> int:
    reports: dict[str, SyncReport] = {}
    failures: list[ClouditiaError] = []
    for name in _targets_to_sync(args.target):
        try:
            client = GatewayClient(resolve_target(name))
            model = client.kernelspecs()
            reports[name] = sync_specs(name, model, provisioner=not args.no_provisioner)
            reports[name].removed += remove_ended(client, name)
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
            "kernel_id": spec.kernel_id,
            "display_name": spec.display_name,
            "path": str(spec.path),
            "state": _state(spec, known),
        }
        for spec in specs
    ]
    rows = [(str(each["name"]), str(each["display_name"]), str(each["state"])) for each in data]
    emit(args, data, table(("NAME", "TITLE", "STATE"), rows))
    if not specs:
        say("No kernelspecs yet. Write some with: clouditia kernelspec sync")
    return 0


def _state(spec: InstalledSpec, known_targets: set[str]) -> str:
    if spec.target not in known_targets:
        return "its target is gone"
    if not spec.is_startable:
        return "its program is gone"
    return _state_of_kernel(spec) if spec.kernel_id else "ok"


def _state_of_kernel(spec: InstalledSpec) -> str:
    try:
        target = known_targets(spec.target)[0]
        is_gone = has_ended(GatewayClient(target, _LOOK_TIMEOUT_S), spec)
    except ClouditiaError:
        return "its gateway does not answer"
    return "its kernel has ended" if is_gone else "ok"


def _remove(args: argparse.Namespace) -> int:
    specs = installed_specs(check_target_name(args.target) if args.target else None)
    if args.name:
        specs = [spec for spec in specs if spec.name == args.name.lower()]
    removed = remove_specs(specs)
    emit(args, {"removed": removed}, "")
    say(f"Removed {len(removed)} kernelspecs.")
    return 0
