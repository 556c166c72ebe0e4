"""``/api/kernels/{kernel_id}/channels``: one route for resume links, stock v1 and legacy clients.

Who may is decided before the upgrade; what is spoken, by the subprotocols that the client offers.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Protocol

from jupyter_server.auth.decorator import allow_unauthenticated

from clouditia.errors import ClouditiaError, PermissionDeniedError
from clouditia.protocol.frames import MAX_FRAME_BYTES
from clouditia.protocol.handshake import STOCK_SUBPROTOCOL, SUBPROTOCOL
from clouditia.protocol.messages import MAX_MESSAGE_BYTES
from clouditia_gateway.audit.kernels import by
from clouditia_gateway.channels.host_access import HostAccess
from clouditia_gateway.channels.origin import is_origin_allowed
from clouditia_gateway.channels.relay import Relay
from clouditia_gateway.channels.socket import ChannelSocket
from clouditia_gateway.channels.stock_forms import LegacyForm, V1Form
from clouditia_gateway.context import SETTING
from clouditia_gateway.errors import http_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clouditia_gateway.channels.stock_sessions import StockSessions
    from clouditia_gateway.context import GatewayContext
    from clouditia_gateway.records import Principal

log = logging.getLogger("clouditia.gateway")

_MAX_SESSION_ID_LENGTH = 200


class _Speaker(Protocol):
    """What serves the client's messages once the protocol is known."""

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """Take one message; the next is read when the returned awaitable is done."""
        ...

    def detach(self, client: ChannelSocket) -> None:
        """The client's socket is gone."""
        ...


class ClientChannelsHandler(ChannelSocket):
    """The channels of one kernel for one client."""

    def initialize(self, stock_sessions: StockSessions) -> None:  # type: ignore[override]
        """Nothing known about the client yet."""
        super().initialize()
        self._stock_sessions = stock_sessions
        self._speaker: _Speaker | None = None
        self._unregister: Callable[[], None] | None = None
        self._line: socket.socket | None = None

    @property
    def context(self) -> GatewayContext:
        """The gateway's parts."""
        context: GatewayContext = self.settings[SETTING]
        return context

    # --- before the upgrade ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Find out who asks for which kernel, and answer 401 or 404 while it is still HTTP."""
        try:
            found = self.context.authenticator.authenticate(self.request, allow_query_token=True)
            self.principal: Principal = found.principal
            if found.principal.is_read_only:
                raise PermissionDeniedError("this key may only look, not send a kernel anything")
            self.context.registry.get_kernel(self.path_kwargs["kernel_id"], self.principal)
        except ClouditiaError as error:
            if isinstance(error, PermissionDeniedError):
                self.context.audit.refused(
                    "permission_refused", **by(self.principal), request=self.request.path
                )
            wire = error.to_wire()
            self.set_status(http_status(error))
            if wire["retry_after"] is not None:
                self.set_header("Retry-After", str(wire["retry_after"]))
            self.finish(wire)

    def check_origin(self, origin: str) -> bool:
        """Pages of other origins may not connect, whatever they authenticate with."""
        return is_origin_allowed(
            origin,
            self.request.headers.get("Host"),
            allow_origin=self.settings.get("allow_origin", ""),
            allow_origin_pat=self.settings.get("allow_origin_pat", ""),
        )

    @allow_unauthenticated  # for jupyter_server's check at start; `prepare` has authenticated
    async def get(self, kernel_id: str) -> None:
        """Upgrade."""
        if self._offers_resume and "Origin" not in self.request.headers:
            access = HostAccess(self.context, kernel_id, self.principal, SUBPROTOCOL)
            self._line = await access.line()
        try:
            await super().get(kernel_id=kernel_id)
        finally:
            self._end_line()

    @property
    def _offers_resume(self) -> bool:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        return SUBPROTOCOL in [name.strip() for name in offered.split(",")]

    @property
    def max_message_size(self) -> int:
        """Frames of a link are small; stock clients send a message in one piece."""
        return MAX_FRAME_BYTES if self._offers_resume else MAX_MESSAGE_BYTES

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The best that the client offers; none means the legacy form."""
        for name in (SUBPROTOCOL, STOCK_SUBPROTOCOL):
            if name in subprotocols:
                return name
        return None

    # --- after it --------------------------------------------------------------------------------

    def open(self, kernel_id: str) -> None:  # type: ignore[override]
        """Serve the client in the form that was agreed."""
        protocol = self.selected_subprotocol
        self.context.audit.record(
            "kernel_attached", **by(self.principal), kernel_id=kernel_id, form=protocol or "legacy"
        )
        if self._was_handed_over(kernel_id):
            return
        super().open()
        self._unregister = self.context.live_connections.register(self.principal, self.shut)
        log.info("client of kernel %s connected, %s", kernel_id, protocol or "legacy form")
        access = HostAccess(self.context, kernel_id, self.principal, protocol or "legacy")
        if protocol == SUBPROTOCOL:
            self._speaker = Relay(self, access)
            return
        session_id = self.get_query_argument("session_id", "")[:_MAX_SESSION_ID_LENGTH]
        session = self._stock_sessions.find_or_create(access, session_id)
        self._speaker = session
        session.attach(self, V1Form() if protocol else LegacyForm())

    def _was_handed_over(self, kernel_id: str) -> bool:
        """Let the kernel's host have the socket, before anything was read from it."""
        if self._line is None or self.ws_connection is None or self.ws_connection.stream is None:
            return False
        self.set_nodelay(True)
        stream = self.ws_connection.stream
        with self._line as line:
            handed = self.context.handed_over.hand_over(kernel_id, self.principal, stream, line)
        if handed:
            log.info("client of kernel %s connected, handed over to its host", kernel_id)
            stream.close()
        return handed

    def _end_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """One message of the client."""
        return None if self._speaker is None else self._speaker.message_received(message)

    def socket_closed(self) -> None:
        """The client is gone; its kernel stays."""
        if self._unregister is not None:
            self._unregister()
        if self._speaker is not None:
            log.info("client of kernel %s disconnected", self.path_kwargs["kernel_id"])
            self._speaker.detach(self)
