"""All routes of the gateway in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clouditia_gateway.channels.handlers import websocket_handlers
from clouditia_gateway.handlers import kernels, kernelspecs, login, server, sessions

if TYPE_CHECKING:
    from clouditia_gateway.context import GatewayContext

_ID = "[^/]+"

HTTP_ROUTES: tuple[tuple[str, type], ...] = (
    (r"/", login.RootHandler),
    (r"/tree", login.TreeHandler),
    (r"/login", login.LoginHandler),
    (r"/logout", login.LogoutHandler),
    (r"/health", server.HealthHandler),
    (r"/api/?", server.ApiVersionHandler),
    (r"/api/status", server.StatusHandler),
    (r"/api/me", server.MeHandler),
    (r"/api/kernelspecs", kernelspecs.KernelSpecsHandler),
    (rf"/api/kernelspecs/(?P<name>{_ID})", kernelspecs.KernelSpecHandler),
    (
        rf"/kernelspecs/(?P<name>{_ID})/(?P<file_name>{_ID})",
        kernelspecs.KernelSpecResourceHandler,
    ),
    (r"/api/kernels", kernels.KernelsHandler),
    (rf"/api/kernels/(?P<kernel_id>{_ID})", kernels.KernelHandler),
    (rf"/api/kernels/(?P<kernel_id>{_ID})/interrupt", kernels.KernelInterruptHandler),
    (rf"/api/kernels/(?P<kernel_id>{_ID})/restart", kernels.KernelRestartHandler),
    (r"/api/sessions", sessions.SessionsHandler),
    (rf"/api/sessions/(?P<session_id>{_ID})", sessions.SessionHandler),
    (r"/clouditia/api/v1/info", server.InfoHandler),
    (r"/clouditia/api/v1/openapi.json", server.OpenApiHandler),
    (r"/clouditia/api/v1/drain", server.DrainHandler),
)


def all_routes(context: GatewayContext) -> list[tuple[Any, ...]]:
    """Rules for tornado, without the base URL, HTTP and websockets."""
    return [*HTTP_ROUTES, *websocket_handlers(context)]
