"""``clouditia attach``: the live output of a running kernel, in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import sys

from clouditia.cli.app import Subparsers
from clouditia.cli.choosing import FoundKernel, find_kernel
from clouditia.cli.live_output import LiveOutput
from clouditia.cli.output import say
from clouditia.cli.watching import KernelWatch
from clouditia.errors import KernelDied

__all__ = ["add_parser", "command"]


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    add_parser(subparsers, "attach")


def add_parser(subparsers: Subparsers, name: str) -> None:
    """Add it as a command of its own, or below ``clouditia kernels``."""
    parser = subparsers.add_parser(
        name,
        help="show the live output of a running kernel",
        description="Show what a kernel prints, from the beginning of its oldest unfinished "
        "request until it is idle. Ctrl-C leaves; the kernel runs on either way.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help="its id, the beginning of it, or its URL")
    parser.add_argument("--target", help="only look on this target")
    parser.set_defaults(run=_attach)


def _attach(args: argparse.Namespace) -> int:
    kernel = find_kernel(args.kernel, args.target)
    say(f"attached to {kernel.kernel_id} on {kernel.target.name}")
    try:
        asyncio.run(_show(kernel, as_json=args.json))
    except KeyboardInterrupt:
        say("detached; the kernel runs on")
    return 0


async def _show(kernel: FoundKernel, *, as_json: bool) -> None:
    output = LiveOutput(sys.stdout, sys.stderr, as_json=as_json)
    watch = KernelWatch(kernel.target, kernel.kernel_id, on_message=output.show, on_notice=say)
    ending = await watch.run_until_idle()
    if isinstance(ending, KernelDied):
        raise ending
    say(str(ending))
