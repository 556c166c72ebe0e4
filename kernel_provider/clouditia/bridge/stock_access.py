"""The way to one kernel of a stock server: its REST interface and its websocket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from clouditia.bridge.in_thread import in_thread
from clouditia.bridge.link_access import channels_url
from clouditia.transport.stock_socket import StockSocket, open_stock_socket
from clouditia.transport.tls import policy_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.rest import GatewayClient
    from clouditia.settings import Target

__all__ = ["StockAccess"]

T = TypeVar("T")


class StockAccess:
    """For one kernel.

    Args:
        target: The server.
        rest: Its REST interface.
        kernel_id: The kernel.
    """

    def __init__(self, target: Target, rest: GatewayClient, kernel_id: str) -> None:
        self.rest = rest
        self.kernel_id = kernel_id
        self._url = channels_url(target, kernel_id)
        self._headers = target.authorization()
        self._tls = policy_for(target.url, ca_file=target.ca_file, pin=target.pin)

    def ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Make a blocking REST call in a thread."""
        return asyncio.wrap_future(in_thread(work, "clouditia-rest"))

    def find_state(self) -> asyncio.Future[str]:
        """What the server says of the kernel, such as ``idle``, ``busy`` or ``dead``."""
        return self.ask(
            lambda: str(self.rest.get_kernel(self.kernel_id).get("execution_state", ""))
        )

    async def open(self, session_id: str) -> StockSocket:
        """Open the websocket as the client ``session_id``, for which the server keeps output."""
        return await open_stock_socket(
            f"{self._url}?session_id={session_id}",
            headers=self._headers,
            ssl=None if self._tls is None else self._tls.context,
        )
