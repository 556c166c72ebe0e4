"""The websocket routes of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clouditia_gateway.channels.client_handler import ClientChannelsHandler
from clouditia_gateway.channels.host_handlers import HostControlHandler, HostDataHandler
from clouditia_gateway.channels.stock_sessions import StockSessions

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from clouditia_gateway.context import GatewayContext

_KERNEL_ID = r"(?P<kernel_id>[\w-]{1,64})"
_CONNECTION_ID = r"(?P<connection_id>[0-9a-f]{32})"

HOST_CONTROL = rf"/clouditia/host/v1/{_KERNEL_ID}/control"
HOST_DATA = rf"/clouditia/host/v1/{_KERNEL_ID}/data/{_CONNECTION_ID}"
CLIENT_CHANNELS = rf"/api/kernels/{_KERNEL_ID}/channels"

Route = tuple[str, "type[RequestHandler]", dict[str, Any]]


def websocket_handlers(context: GatewayContext) -> list[Route]:
    """Routes relative to the base URL; also makes the registry hear from kernel hosts.

    Args:
        context: The gateway's parts; the handlers find it in tornado's settings.
    """
    stock_sessions = StockSessions()
    context.hub.listener = context.registry
    context.hub.closers.append(stock_sessions.close)
    return [
        (HOST_CONTROL, HostControlHandler, {}),
        (HOST_DATA, HostDataHandler, {}),
        (CLIENT_CHANNELS, ClientChannelsHandler, {"stock_sessions": stock_sessions}),
    ]
