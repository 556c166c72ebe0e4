"""The event loop of a bridge: where everything heavy (ZMQ, asyncio, websockets) is imported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clouditia.bridge.bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.connection_file import ConnectionInfo
    from clouditia.bridge.options import BridgeOptions
    from clouditia.bridge.parent import ParentWatch
    from clouditia.bridge.starting import Start
    from clouditia.rest import GatewayClient
    from clouditia.settings import Target

__all__ = ["run_bridge"]


def run_bridge(
    options: BridgeOptions,
    info: ConnectionInfo,
    target: Target,
    connect_rest: Callable[[], GatewayClient],
    start: Start,
    parent: ParentWatch,
) -> int:
    """Run a :class:`Bridge` on an event loop that can watch ZMQ sockets; returns the exit code."""

    async def serve() -> int:
        return await Bridge(options, info, target, connect_rest, start, parent).run()

    # ZMQ needs add_reader, which the default loop of Windows lacks.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(serve())
