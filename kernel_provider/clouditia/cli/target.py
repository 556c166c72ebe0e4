"""``clouditia target``: list and remove gateways."""

from __future__ import annotations

import argparse

from clouditia.cli.app import Subparsers
from clouditia.cli.output import emit, say, table
from clouditia.kernelspecs import installed_specs, remove_specs
from clouditia.settings import check_target_name, list_targets, remove_target

__all__ = ["command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "target", help="list and remove gateways", description="The gateways that you know."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show all targets")
    listing.set_defaults(run=_list)
    removing = actions.add_parser("remove", help="forget a target, its key and its kernelspecs")
    removing.add_argument("name", metavar="NAME")
    removing.set_defaults(run=_remove)


def _list(args: argparse.Namespace) -> int:
    targets = list_targets()
    data = [
        {
            "name": target.name,
            "url": target.url,
            "kind": target.kind,
            "on_close": target.on_close,
            "pin": target.pin,
            "ca_file": str(target.ca_file) if target.ca_file else None,
        }
        for target in targets
    ]
    rows = [(target.name, target.url, target.kind, target.on_close) for target in targets]
    emit(args, data, table(("NAME", "URL", "KIND", "ON CLOSE"), rows))
    if not targets:
        say("No target yet. Add one with: clouditia login URL --name NAME")
    return 0


def _remove(args: argparse.Namespace) -> int:
    name = check_target_name(args.name)
    remove_target(name)
    removed = remove_specs(installed_specs(name))
    emit(args, {"removed": name, "kernelspecs": removed}, "")
    say(f"Forgot the target {name!r}, its key and {len(removed)} kernelspecs. Kernels run on.")
    return 0
