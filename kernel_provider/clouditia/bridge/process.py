"""``clouditia-kernel``: the program that a kernelspec names.

The order of things makes a start fast: options, target and key with the standard library only;
then the kernel starts on the gateway while this process imports ZMQ and binds its ports; the
websocket library comes last. Where the provisioner starts the kernel, HTTP is not even loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clouditia.bridge.connection_file import read_connection_file
from clouditia.bridge.options import parse_options
from clouditia.bridge.parent import watch_parent
from clouditia.bridge.starting import AnnouncedStart, KernelStart
from clouditia.bridge.state_file import StateFile
from clouditia.errors import ClouditiaError, KernelNotFound
from clouditia.settings import EMBEDDED, load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clouditia.bridge.options import BridgeOptions
    from clouditia.bridge.starting import Start
    from clouditia.rest import GatewayClient
    from clouditia.settings import Target

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bridge; returns its exit code (the table of :mod:`clouditia.errors`)."""
    options = parse_options(argv)
    parent = watch_parent()
    try:
        info = read_connection_file(options.connection_file)
        target = _resolve_target(options.target)
        connect_rest = _rest_connector(target)
        start = _begin(options, connect_rest)

        _set_up_logging(options.log_level)
        from clouditia.bridge.running import run_bridge  # heavy: ZMQ, asyncio, websockets

        return run_bridge(options, info, target, connect_rest, start, parent)
    except ClouditiaError as exc:
        sys.stderr.write(f"clouditia-kernel: {exc}\n")
        # The provisioner raises this where the user sees it; stderr may be a log far away.
        state = "ended" if isinstance(exc, KernelNotFound) and options.kernel_id else "died"
        StateFile(options.connection_file).write(
            kernel_id="", epoch=None, state=state, reason=str(exc)
        )
        return exc.exit_code


def _begin(options: BridgeOptions, connect_rest: Callable[[], GatewayClient]) -> Start:
    if options.is_starting and options.kernel_id is not None:
        return AnnouncedStart(options.kernel_id)
    return KernelStart(connect_rest(), options)


def _rest_connector(target: Target) -> Callable[[], GatewayClient]:
    key = target.read_key()  # now: the file may change while the kernel lives

    def connect() -> GatewayClient:
        from clouditia.rest import GatewayClient

        return GatewayClient(target, key=key)

    return connect


def _set_up_logging(level: str | None) -> None:
    import logging  # a quarter of the time until the kernel is asked for, would it come first

    if level is None:
        logging.getLogger("clouditia").addHandler(logging.NullHandler())
    else:
        logging.basicConfig(level=level, format="%(asctime)s %(name)s %(levelname)s %(message)s")


def _resolve_target(name: str) -> Target:
    if name.lower() == EMBEDDED:
        from clouditia.embedded import ensure_gateway  # starts a process: only where it is needed

        return ensure_gateway()
    return load_target(name)


if __name__ == "__main__":
    sys.exit(main())
