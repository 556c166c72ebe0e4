"""A stock Jupyter server whose kernel websockets do not wait for Nagle's algorithm.

jupyter_server leaves it on, and every cell then stalls for the peer's delayed acknowledgement,
40 ms on Linux. A comparison with that would flatter us, so the gate compares with the rival at its
best.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_server.serverapp import main
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler


def open_promptly(as_it_comes: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The handler's ``open``, after switching the delay off."""

    async def open_(handler: Any, *arguments: Any, **options: Any) -> None:
        handler.set_nodelay(True)
        await as_it_comes(handler, *arguments, **options)

    return open_


if __name__ == "__main__":
    setattr(KernelWebsocketHandler, "open", open_promptly(KernelWebsocketHandler.open))  # noqa: B010
    main()
