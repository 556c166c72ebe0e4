"""Websockets as message transports, with errors of our own tree."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import Protocol, Side
from websockets.typing import Subprotocol

from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    GatewayUnreachable,
    KernelNotFound,
    PermissionDeniedError,
    error_from_wire,
)
from clouditia.protocol.frames import MAX_FRAME_BYTES
from clouditia.protocol.messages import Buffer
from clouditia.transport.link_runner import TransportClosed
from clouditia.transport.push_connection import PushClientConnection, PushConnection

_BY_STATUS: dict[int, type[ClouditiaError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: KernelNotFound,
    410: KernelNotFound,
}
_CLOSE_TIMEOUT_S = 2.0
#: Bytes that the operating system did not take yet; above, writers wait.
_CONGESTED_BYTES = 256 * 1024


class HandshakeRefused(GatewayUnreachable):
    """The server answered the websocket request with an HTTP error that may pass, such as 503."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, retryable=True)
        self.status = status


class WebSocketTransport:
    """A websocket; binary messages for links, text for control connections.

    After :meth:`attach`, frames are pushed: no task, queue or future per message. Before, they
    wait for :meth:`receive`, and the peer is held once a few are waiting.
    """

    def __init__(self, connection: PushConnection) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        """What the server picked of the offered subprotocols."""
        return self._connection.subprotocol

    def hold(self, *, hold: bool) -> None:
        """Stop (or go on) reading, so that the peer is held by TCP."""
        self._connection.hold(hold=hold)

    # --- pushed frames ---------------------------------------------------------------------------

    def attach(
        self, on_frame: Callable[[Buffer], None], on_closed: Callable[[TransportClosed], None]
    ) -> None:
        """From now on give each message to ``on_frame``, beginning with those that wait."""
        self._connection.push_to(
            lambda data: on_frame(data.encode() if isinstance(data, str) else data),
            lambda: on_closed(self._closed()),
        )

    @property
    def is_congested(self) -> bool:
        """Whether :meth:`write` should give way to :meth:`send`, which waits."""
        return self._connection.transport.get_write_buffer_size() > _CONGESTED_BYTES

    def write(self, frames: list[list[Buffer]]) -> None:
        """Send binary messages at once, in one system call where they are small."""
        self._connection.write_binary([_joined(parts) for parts in frames])

    # --- awaited frames --------------------------------------------------------------------------

    async def send(self, parts: list[Buffer]) -> None:
        """Send one binary message."""
        await self._send(_joined(parts))

    async def receive(self) -> Buffer:
        """The next message."""
        message = await self._receive()
        return message.encode() if isinstance(message, str) else message

    async def send_text(self, text: str) -> None:
        """Send one text message."""
        await self._send(text)

    async def receive_text(self) -> str:
        """The next message as text."""
        message = await self._receive()
        return message if isinstance(message, str) else bytes(message).decode()

    async def _send(self, data: str | Buffer) -> None:
        try:
            await self._connection.send(data)
        except ConnectionClosed as exc:
            raise self._closed() from exc

    async def _receive(self) -> str | Buffer:
        message = await self._connection.next_message()
        if message is None:
            raise self._closed()
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, waiting at most 2 s for the peer."""
        await self._connection.close(code, reason[:120])

    def _closed(self) -> TransportClosed:
        received = self._connection.protocol.close_rcvd
        if received is None:
            return TransportClosed("the connection broke")
        text = f"the connection was closed with code {received.code}"
        if received.reason:
            text += f": {received.reason}"
        return TransportClosed(text, close_code=received.code)


class _OpenWithoutRedirects(open_websocket):
    """The library follows redirects, and takes the Authorization header along to any host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Never follow."""
        return exc


def _joined(parts: list[Buffer]) -> Buffer:
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def connect(
    url: str,
    *,
    headers: dict[str, str],
    subprotocols: list[str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    open_timeout: float = 10.0,
    ping_interval: float | None = None,
    max_message_bytes: int = MAX_FRAME_BYTES,
) -> WebSocketTransport:
    """Open a websocket.

    Args:
        url: ``ws://`` or ``wss://``; ``http`` schemes are taken as such.
        headers: Additional request headers, such as Authorization.
        subprotocols: Offered, in order of preference.
        ssl: Context for wss.
        open_timeout: Seconds for TCP, TLS and the upgrade together.
        ping_interval: Seconds between websocket pings, after twice which without an answer the
            connection counts as broken; None where the link pings itself.
        max_message_bytes: Larger messages of the server break the connection.

    Raises:
        GatewayUnreachable: nothing answered, or not in time (:class:`HandshakeRefused` for an
            HTTP error that may pass).
        AuthenticationError, PermissionDeniedError, KernelNotFound: HTTP 401, 403, 404 and 410.
        ConfigError: the URL, or the TLS of the server, is wrong.
    """
    url = "ws" + url[4:] if url.startswith("http") else url
    try:
        connection = await _OpenWithoutRedirects(
            url,
            additional_headers=headers,
            subprotocols=[Subprotocol(name) for name in subprotocols] if subprotocols else None,
            ssl=ssl if url.startswith("wss:") else None,
            open_timeout=open_timeout,
            close_timeout=_CLOSE_TIMEOUT_S,
            ping_interval=ping_interval,
            ping_timeout=2 * ping_interval if ping_interval else None,
            compression=None,
            max_size=max_message_bytes,
            proxy=None,
            user_agent_header=None,
            create_connection=PushClientConnection,
        )
    except InvalidStatus as exc:
        raise _refused(url, exc) from exc
    except ssl_module.SSLCertVerificationError as exc:
        raise ConfigError(
            f"the certificate of {_origin(url)} is not trusted: {exc.verify_message or exc}",
            hint="Log in again with --ca-file or --pin.",
        ) from exc
    except InvalidURI as exc:
        raise ConfigError(f"{_origin(url)} is not a websocket URL") from exc
    except (OSError, TimeoutError, InvalidHandshake) as exc:
        raise GatewayUnreachable(
            f"no websocket to {_origin(url)}: {exc or type(exc).__name__}.", retryable=True
        ) from exc
    if not isinstance(connection, PushClientConnection):  # pragma: no cover  (what was asked for)
        raise TypeError(type(connection))
    return WebSocketTransport(connection)


async def adopt(connected: socket.socket) -> WebSocketTransport:
    """The server's end of a websocket whose upgrade somebody else has answered.

    Args:
        connected: A plain TCP socket on which the client's next bytes are frames. It is owned,
            and in the end closed, by the transport.
    """
    loop = asyncio.get_running_loop()
    connected.setblocking(False)  # noqa: FBT003  (its only argument)
    _, connection = await loop.connect_accepted_socket(
        lambda: PushConnection(
            Protocol(Side.SERVER, max_size=MAX_FRAME_BYTES),
            ping_interval=None,
            ping_timeout=None,
            close_timeout=_CLOSE_TIMEOUT_S,
        ),
        connected,
    )
    return WebSocketTransport(connection)


def _refused(url: str, exc: InvalidStatus) -> ClouditiaError:
    status = exc.response.status_code
    if 300 <= status < 400:
        return ConfigError(
            f"{_origin(url)} redirects to {exc.response.headers.get('Location')}",
            hint="The key is not sent there. If that is the gateway, log in with its URL.",
        )
    wire = _wire_error(bytes(exc.response.body or b""))
    message = wire.get("message") or f"{_origin(url)} answered HTTP {status}"
    if status not in _BY_STATUS:
        return HandshakeRefused(str(message), status=status)
    error = error_from_wire({**wire, "message": message})
    if type(error) is ClouditiaError:
        return _BY_STATUS[status](str(message), hint=str(wire.get("hint") or ""))
    return error


def _wire_error(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _origin(url: str) -> str:
    """The URL without path and query: queries may hold a token."""
    return "/".join(url.split("/", 3)[:3])
