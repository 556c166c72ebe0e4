"""The kernel host: to a remote kernel what tmux is to a shell.

One process per kernel, independent of the gateway's life. It starts the kernel before it imports
anything heavy, so this package imports nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the host of the kernel that ``argv[0]`` (the path of a ``launch.json``) describes."""
    import sys

    from clouditia_gateway.host.launch import run

    return run(list(sys.argv[1:] if argv is None else argv))
