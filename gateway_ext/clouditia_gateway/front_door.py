"""What holds before anybody has said who they are: connections an address, and seconds to speak.

Tornado waits an hour for the first line of a request. Here a connection that has not sent a whole
request head within 10 s is closed, TLS handshake included, and an idle one after 75 s. An address
may hold so many connections; programs on this machine, kernel hosts among them, are not counted,
because a proxy in front of the gateway looks like one of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPMessageDelegate
from tornado.iostream import StreamClosedError, UnsatisfiableReadError

from clouditia.errors import QuotaError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from ssl import SSLContext

    from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine
    from tornado.iostream import IOStream

    from clouditia_gateway.audit.log import Recorder

log = logging.getLogger("clouditia.gateway")

HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 75.0
BODY_TIMEOUT_S = 60.0
MAX_HEADER_BYTES = 64 * 1024
#: Where programs on this machine come from; the rest of 127.0.0.0/8 is nobody's by default.
_OWN_ADDRESSES = frozenset({"127.0.0.1", "::1"})


class FrontDoor(HTTPServer):
    """The gateway's HTTP server."""

    _limit = 0
    _audit: Recorder
    _open: Counter[str]
    _pending: dict[object, asyncio.TimerHandle]

    @classmethod
    def around(
        cls,
        application: Any,
        *,
        tls: SSLContext | None,
        max_body_bytes: int,
        connections_per_address: int,
        audit: Recorder,
    ) -> FrontDoor:
        """The server; tornado builds it in a way that leaves no room for a constructor."""
        door = cls(
            application,
            ssl_options=tls,
            max_body_size=max_body_bytes,
            max_header_size=MAX_HEADER_BYTES,
            idle_connection_timeout=IDLE_TIMEOUT_S,
            body_timeout=BODY_TIMEOUT_S,
        )
        door._limit = connections_per_address
        door._audit = audit
        door._open = Counter()
        door._pending = {}
        return door

    @classmethod
    def configurable_base(cls) -> type[FrontDoor]:
        """Tornado's way to say which class is made."""
        return FrontDoor

    @classmethod
    def configurable_default(cls) -> type[FrontDoor]:
        """Likewise."""
        return FrontDoor

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """A connection was accepted."""
        peer = str(address[0]) if address else ""
        if peer not in _OWN_ADDRESSES:
            if self._open[peer] >= self._limit:
                self._turn_away(stream, peer)
                return
            self._count(stream, peer)
        timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self._too_slow, stream, peer)
        self._pending[stream] = timer
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Tornado waits for the next request of a connection."""
        stream = getattr(server_conn, "stream", None)
        delegate = super().start_request(server_conn, request_conn)
        return _Announced(delegate, lambda: self._has_spoken(stream))

    def _count(self, stream: IOStream, peer: str) -> None:
        self._open[peer] += 1

        def gone() -> None:
            self._open[peer] -= 1
            if self._open[peer] <= 0:
                del self._open[peer]

        # The stream's own callback belongs to tornado, which sets it; this one nobody replaces.
        close_fd = stream.close_fd

        def close_and_forget() -> None:
            gone()
            stream.close_fd = close_fd  # type: ignore[method-assign]  # its only other value
            close_fd()

        stream.close_fd = close_and_forget  # type: ignore[method-assign]  # tornado's hook

    def _has_spoken(self, stream: object) -> None:
        timer = self._pending.pop(stream, None)
        if timer is not None:
            timer.cancel()

    def _too_slow(self, stream: IOStream, peer: str) -> None:
        self._pending.pop(stream, None)
        if not stream.closed():
            log.info("%s sent no request within %g s, closing", peer, HEAD_TIMEOUT_S)
            stream.close()

    def _turn_away(self, stream: IOStream, peer: str) -> None:
        """Answer 429 without reading anything."""
        error = QuotaError(
            f"{peer} has {self._limit} connections to this gateway, no more are possible",
            hint="Close some; many users behind one proxy need the gateway on loopback.",
        )
        self._audit.refused("limit_reached", limit=error.message, **{"from": peer})
        body = json.dumps(error.to_wire()).encode()
        head = (
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
            f"Retry-After: 10\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answering = asyncio.create_task(self._answer(stream, head.encode() + body))
        self._pending[answering] = asyncio.get_running_loop().call_later(
            HEAD_TIMEOUT_S, stream.close
        )
        answering.add_done_callback(self._has_spoken)

    async def _answer(self, stream: IOStream, answer: bytes) -> None:
        """Unread input would make the system throw the answer away with the connection."""
        try:
            await stream.write(answer)
            await stream.read_until(b"\r\n\r\n", max_bytes=MAX_HEADER_BYTES)
        except (StreamClosedError, UnsatisfiableReadError):
            log.debug("a connection that was turned away has ended")
        stream.close()


class _Announced(HTTPMessageDelegate):
    """Passes everything on, and tells when a request's head has come."""

    def __init__(self, inner: HTTPMessageDelegate, on_head: Any) -> None:
        self._inner = inner
        self._on_head = on_head

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._on_head()
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()
