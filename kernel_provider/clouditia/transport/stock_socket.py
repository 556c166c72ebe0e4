"""The websocket of one kernel on a stock Jupyter server: Jupyter messages in v1 or legacy form."""

from __future__ import annotations

import logging
import ssl as ssl_module
from collections.abc import Callable

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.handshake import STOCK_SUBPROTOCOL
from clouditia.protocol.messages import (
    MAX_BUFFERS,
    MAX_MESSAGE_BYTES,
    Buffer,
    Message,
    decode_legacy,
    decode_v1,
    encode_legacy,
    encode_v1,
)
from clouditia.transport.link_runner import TransportClosed
from clouditia.transport.websocket import WebSocketTransport, connect

__all__ = ["StockSocket", "open_stock_socket"]

log = logging.getLogger("clouditia.link")

#: A server that is silent for twice this long is away; stock servers answer pings.
_PING_INTERVAL_S = 10.0
_MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + 16 * MAX_BUFFERS


class StockSocket:
    """One connection; which form it speaks was settled by the handshake.

    Args:
        transport: The open websocket.
    """

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self.is_v1 = transport.subprotocol == STOCK_SUBPROTOCOL

    def attach(
        self, on_message: Callable[[Message], None], on_closed: Callable[[TransportClosed], None]
    ) -> None:
        """Hand over each message as it arrives, beginning with those that wait, and the end.

        A frame that is no message is dropped with a log line.
        """

        def on_frame(frame: Buffer) -> None:
            try:
                on_message(self._decode(frame))
            except RemoteProtocolError as exc:
                log.warning("dropped a message of the server: %s", exc.message)

        self._transport.attach(on_frame, on_closed)

    def _decode(self, frame: Buffer) -> Message:
        if self.is_v1:
            return decode_v1(frame)
        # Text and binary messages tell themselves apart: JSON begins with a brace, the binary
        # form with the first byte of a small big-endian number.
        return decode_legacy(str(frame, "utf-8") if bytes(frame[:1]) == b"{" else frame)

    async def send(self, message: Message) -> None:
        """Send one message; waits while the server is slow.

        Raises:
            TransportClosed: the connection is gone; whether the message arrived is unknown.
        """
        if self.is_v1:
            await self._transport.send(encode_v1(message))
            return
        frame = encode_legacy(message)
        if isinstance(frame, str):
            await self._transport.send_text(frame)
        else:
            await self._transport.send([frame])

    def hold(self, *, hold: bool) -> None:
        """Stop (or go on) reading."""
        self._transport.hold(hold=hold)

    async def close(self) -> None:
        """Close, waiting at most 2 s for the server."""
        await self._transport.close()


async def open_stock_socket(
    url: str, *, headers: dict[str, str], ssl: ssl_module.SSLContext | None
) -> StockSocket:
    """Open the channels of a kernel; errors as :func:`clouditia.transport.websocket.connect`.

    Args:
        url: ``…/api/kernels/ID/channels?session_id=…``.
        headers: With the token, where the server wants one.
        ssl: Context for https.
    """
    transport = await connect(
        url,
        headers=headers,
        subprotocols=[STOCK_SUBPROTOCOL],
        ssl=ssl,
        ping_interval=_PING_INTERVAL_S,
        max_message_bytes=_MAX_FRAME_BYTES,
    )
    return StockSocket(transport)
