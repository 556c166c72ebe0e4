"""``clouditia kernels``: list, attach to and stop remote kernels."""

from __future__ import annotations

import argparse

from clouditia.cli import attach
from clouditia.cli.app import Subparsers
from clouditia.cli.choosing import FoundKernel, find_kernel, known_targets, list_kernels
from clouditia.cli.limits import lifetime, tell_endings
from clouditia.cli.output import emit, say, table

__all__ = ["command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "kernels",
        help="list, attach to and stop remote kernels",
        description="Your kernels on the gateways that you know. They live on when a front end "
        "or a connection goes away.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show your kernels")
    listing.add_argument("--target", help="only on this target")
    listing.set_defaults(run=_list)
    attach.add_parser(actions, "attach")
    stopping = actions.add_parser("stop", help="end kernels for good")
    stopping.add_argument("kernels", metavar="KERNEL", nargs="+", help="id, or its beginning")
    stopping.add_argument("--target", help="only on this target")
    stopping.set_defaults(run=_stop)


def _list(args: argparse.Namespace) -> int:
    kernels = list_kernels(args.target)
    data = [{"target": kernel.target.name, **kernel.model} for kernel in kernels]
    headings: tuple[str, ...] = ("ID", "TARGET", "KERNEL", "STATE", "CLIENTS", "LAST ACTIVITY")
    rows = [_row(kernel) for kernel in kernels]
    ends = [lifetime(kernel.model) for kernel in kernels]
    if any(ends):
        headings = (*headings, "ENDS")
        rows = [(*row, end) for row, end in zip(rows, ends, strict=True)]
    emit(args, data, table(headings, rows))
    if not kernels:
        say("No kernels.")
    tell_endings(known_targets(args.target))
    return 0


def _row(kernel: FoundKernel) -> tuple[str, ...]:
    model = kernel.model
    ours = model.get("clouditia")
    is_reachable = not isinstance(ours, dict) or ours.get("reachable", True)
    state = str(model.get("execution_state", "?"))
    return (
        kernel.kernel_id,
        kernel.target.name,
        str(model.get("name", "?")),
        state if is_reachable else f"{state} (host away)",
        str(model.get("connections", "?")),
        str(model.get("last_activity", "?"))[:19].replace("T", " "),
    )


def _stop(args: argparse.Namespace) -> int:
    stopped = []
    for wanted in args.kernels:
        kernel = find_kernel(wanted, args.target)
        kernel.client().shutdown(kernel.kernel_id)
        stopped.append({"target": kernel.target.name, "id": kernel.kernel_id})
        say(f"ended {kernel.kernel_id} on {kernel.target.name}")
    emit(args, stopped, "")
    return 0
