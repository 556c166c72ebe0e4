"""The two websocket routes that kernel hosts dial.

A host shows its bearer token; user keys, cookies, Origin and XSRF play no part here. Refusals are
close codes after the upgrade, because they tell the host whether to go on trying.
Source: docs/host-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.websocket import WebSocketClosedError

from clouditia.errors import AuthenticationError, KernelNotFound, VersionMismatch
from clouditia.protocol.frames import MAX_FRAME_BYTES
from clouditia.protocol.handshake import choose_protocol
from clouditia.protocol.messages import encode_json
from clouditia_gateway.channels import close_codes
from clouditia_gateway.channels.handed_over import path_offered
from clouditia_gateway.channels.socket import ChannelSocket
from clouditia_gateway.context import SETTING
from clouditia_gateway.errors import StaleHostError
from clouditia_gateway.records import HostState

if TYPE_CHECKING:
    from clouditia_gateway.context import GatewayContext
    from clouditia_gateway.records import KernelRecord

log = logging.getLogger("clouditia.gateway")

_BEARER = "bearer "
_MAX_CONTROL_BYTES = 1024 * 1024
_HELLO_TIMEOUT_S = 10.0


class HostSocket(ChannelSocket):
    """What both routes share: the token check."""

    fence = 0
    kernel_id = ""

    @property
    def context(self) -> GatewayContext:
        """The gateway's parts."""
        context: GatewayContext = self.settings[SETTING]
        return context

    def check_origin(self, origin: str) -> bool:
        """Browsers are no kernel hosts."""
        return False

    @allow_unauthenticated
    async def get(self, *args: str, **kwargs: str) -> None:
        """Upgrade; no user is involved."""
        await super().get(*args, **kwargs)

    def authenticate(self, kernel_id: str) -> KernelRecord | None:
        """The kernel that the bearer token serves; else closes with the reason."""
        scheme = self.request.headers.get("Authorization", "")
        token = scheme[len(_BEARER) :] if scheme.lower().startswith(_BEARER) else ""
        try:
            record = self.context.registry.authenticate_host(kernel_id, token.strip())
        except StaleHostError as error:
            self.shut(close_codes.NEWER_FENCE, error.message)
        except KernelNotFound as error:
            self.shut(close_codes.UNKNOWN_KERNEL, error.message)
        except AuthenticationError as error:
            log.warning("host of kernel %s was refused: bad token", kernel_id)
            self.shut(close_codes.BAD_TOKEN, error.message)
        else:
            self.kernel_id, self.fence = kernel_id, record.fence
            return record
        return None


class HostControlHandler(HostSocket):
    """``/clouditia/host/v1/{kernel_id}/control``: JSON text messages."""

    max_message_size = _MAX_CONTROL_BYTES

    def initialize(self) -> None:
        """Nothing said yet."""
        super().initialize()
        self._has_said_hello = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._directory = Path()

    def open(self, kernel_id: str) -> None:  # type: ignore[override]
        """Check the token, then wait for the hello."""
        super().open()
        record = self.authenticate(kernel_id)
        if record is not None:
            self._directory = Path(record.directory)
            self._hello_timer = asyncio.get_running_loop().call_later(
                _HELLO_TIMEOUT_S, self.shut, close_codes.POLICY_VIOLATION, "no hello within 10 s"
            )

    def send_json(self, message: Mapping[str, Any]) -> None:
        """Send one JSON message; a connection that is gone swallows it."""
        try:
            self.write_now([encode_json(message)], text=True)
        except WebSocketClosedError:
            log.debug("host of kernel %s is gone, %s not sent", self.kernel_id, message["type"])

    def message_received(self, message: str | bytes) -> None:
        """A hello, a state or a reply."""
        fields = _json_object(message)
        if fields is None:
            self.shut(close_codes.POLICY_VIOLATION, "control messages are JSON objects as text")
        elif not self._has_said_hello:
            self._receive_hello(fields)
        elif fields.get("type") == "state":
            self.context.hub.state_received(self.kernel_id, self, _state_of(fields))
        elif fields.get("type") == "reply":
            self.context.hub.reply_received(self.kernel_id, fields)
        elif fields.get("type") == "left":
            self.context.handed_over.link_left(self.kernel_id, str(fields.get("connection_id")))
        # Other types belong to newer hosts: what we do not know we do not need.

    def _receive_hello(self, fields: Mapping[str, Any]) -> None:
        refusal = self._refusal(fields)
        if refusal is not None:
            log.warning("host of kernel %s was refused: %s", self.kernel_id, refusal[1])
            self.shut(*refusal)
            return
        self._cancel_hello_timer()
        self._has_said_hello = True
        log.info("host of kernel %s connected, fence %d", self.kernel_id, self.fence)
        limits = self.context.config.limits.to_wire()
        self.send_json({"type": "welcome", "limits": limits})
        path = path_offered(fields, self._directory)
        self.context.handed_over.host_arrived(self.kernel_id, path, fields.get("links"))
        self.context.hub.host_arrived(self.kernel_id, self, _state_of(fields))

    def _refusal(self, fields: Mapping[str, Any]) -> tuple[int, str] | None:
        if fields.get("type") != "hello" or fields.get("kernel_id") != self.kernel_id:
            return close_codes.POLICY_VIOLATION, "the first message must be this kernel's hello"
        fence = fields.get("fence")
        if not isinstance(fence, int) or isinstance(fence, bool) or fence > self.fence:
            return close_codes.BAD_TOKEN, "the fence is not the one of this token"
        if fence < max(self.fence, self.context.hub.newest_fence(self.kernel_id)):
            return close_codes.NEWER_FENCE, "a newer host of this kernel was launched"
        versions = fields.get("protocol")
        if not _is_version_range(versions):
            return close_codes.POLICY_VIOLATION, "protocol must be [lowest, highest]"
        try:
            choose_protocol((versions[0], versions[1]))
        except VersionMismatch as error:
            return close_codes.TOO_OLD, error.message
        return None

    def _cancel_hello_timer(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None

    def socket_closed(self) -> None:
        """The host is unreachable now; it is not gone."""
        self._cancel_hello_timer()
        if self._has_said_hello:
            log.info("host of kernel %s disconnected, fence %d", self.kernel_id, self.fence)
            if self.context.hub.host_left(self.kernel_id, self):
                self.context.handed_over.host_left(self.kernel_id)


class HostDataHandler(HostSocket):
    """``/clouditia/host/v1/{kernel_id}/data/{connection_id}``: one client link, unread.

    Whoever asked for it calls :meth:`attach` once; what comes before is kept, one frame at most.
    """

    max_message_size = MAX_FRAME_BYTES

    def initialize(self) -> None:
        """Nobody listens yet."""
        super().initialize()
        self._sink: Callable[[bytes], Awaitable[None] | None] | None = None
        self._on_end: Callable[[int | None, str], None] | None = None
        self._early: deque[bytes] = deque()
        self._attached: asyncio.Future[None] | None = None
        self._has_ended = False

    def open(self, kernel_id: str, connection_id: str) -> None:  # type: ignore[override]
        """Check the token and hand this socket to who asked for it."""
        super().open()
        if self.authenticate(kernel_id) is None:
            return
        if not self.context.hub.data_dialled(kernel_id, connection_id, self):
            self.shut(close_codes.POLICY_VIOLATION, "this data connection was not asked for")

    def attach(
        self,
        sink: Callable[[bytes], Awaitable[None] | None],
        on_end: Callable[[int | None, str], None],
    ) -> None:
        """Deliver frames to ``sink``, and the end with (close code, reason) to ``on_end``.

        What ``sink`` returns is awaited before the next frame is read.
        """
        self._sink, self._on_end = sink, on_end
        while self._early:
            sink(self._early.popleft())
        if self._attached is not None:
            self._attached.set_result(None)
        if self._has_ended:
            on_end(self.close_code, self.close_reason or "")

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """One frame of the host."""
        if isinstance(message, str):
            self.shut(close_codes.UNSUPPORTED_DATA, "link frames are binary")
            return None
        if self._sink is not None:
            return self._sink(message)
        self._early.append(message)
        self._attached = asyncio.get_running_loop().create_future()
        return self._attached

    def socket_closed(self) -> None:
        """Tell who was listening."""
        self._has_ended = True
        self.context.hub.data_closed(self.kernel_id, self)
        if self._on_end is not None:
            self._on_end(self.close_code, self.close_reason or "")


def _json_object(message: str | bytes) -> dict[str, Any] | None:
    if isinstance(message, bytes):
        return None
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _state_of(fields: Mapping[str, Any]) -> HostState:
    state = fields.get("state")
    return HostState.from_wire(state if isinstance(state, dict) else {})


def _is_version_range(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    )
