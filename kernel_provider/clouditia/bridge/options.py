"""Command line of ``clouditia-kernel``."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BridgeOptions", "kernel_environment", "parse_options"]


@dataclass(frozen=True)
class BridgeOptions:
    """What the front end (or the provisioner) asked for.

    Attributes:
        target: Name of the gateway.
        kernel: Kernelspec on the gateway.
        kernel_id: Existing kernel to attach to; None starts a new one.
        is_managed: The provisioner sends commands on stdin.
        is_starting: The provisioner is starting ``kernel_id`` right now, and says on stdin how
            that went.
        is_guest: The kernel is somebody else's, and is never ended from here.
        connection_file: Where the front end expects its kernel.
        log_level: Log to stderr from this level on; None keeps stderr for what users must know.
    """

    target: str
    kernel: str
    kernel_id: str | None
    is_managed: bool
    connection_file: Path
    is_starting: bool = False
    is_guest: bool = False
    log_level: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether the kernel is one that nobody has used yet."""
        return self.kernel_id is None or self.is_starting


def parse_options(argv: Sequence[str] | None = None) -> BridgeOptions:
    """Read the command line; unknown arguments are ignored.

    Front ends append their own arguments for ipykernel (jupyter console, nbclient).
    """
    parser = argparse.ArgumentParser(
        prog="clouditia-kernel",
        description="A local Jupyter kernel whose code runs on a Clouditia gateway.",
        allow_abbrev=False,
    )
    parser.add_argument("--target", required=True, help="name of the gateway (clouditia login)")
    parser.add_argument("--kernel", default="python3", help="kernelspec on the gateway")
    parser.add_argument("--kernel-id", help="attach to this kernel instead of starting one")
    parser.add_argument(
        "--attach",
        metavar="KERNEL_ID",
        help="join this running kernel as a guest: closing and shutting down only let go of it",
    )
    parser.add_argument(
        "--managed", action="store_true", help="take commands on stdin: detach, end, interrupt"
    )
    parser.add_argument(
        "--starting",
        action="store_true",
        help="with --managed: the parent is starting --kernel-id and reports that on stdin",
    )
    parser.add_argument(
        "-f", dest="connection_file", type=Path, required=True, help="Jupyter connection file"
    )
    parser.add_argument(
        "--log-level", choices=("DEBUG", "INFO", "WARNING"), help="log to stderr; default: not"
    )
    known, _ = parser.parse_known_args(argv)
    return BridgeOptions(
        target=known.target,
        kernel=known.kernel,
        kernel_id=known.attach or known.kernel_id,
        is_guest=known.attach is not None,
        is_managed=known.managed,
        is_starting=known.managed and known.starting,
        connection_file=known.connection_file,
        log_level=known.log_level,
    )


def kernel_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that the remote kernel shall have: ``KERNEL_*``, never ours or our secrets."""
    return {name: value for name, value in environ.items() if name.startswith("KERNEL_")}
