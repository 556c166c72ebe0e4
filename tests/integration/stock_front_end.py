"""The front end of the tests over Jupyter's own websocket protocol, without any Clouditia part."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.integration.front_end import WAIT_S, FrontEnd, Received
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from clouditia.protocol.messages import Message, decode_v1, encode_json, encode_v1
from clouditia.rest import GatewayClient
from clouditia.settings import Target
from clouditia.testing.waiting import wait_until

STOCK_SUBPROTOCOL = Subprotocol("v1.kernel.websocket.jupyter.org")


@dataclass
class StockFrontEnd(FrontEnd):
    """Connects again with the same ``session_id`` after a cut, as JupyterLab does.

    Attributes:
        client: The websocket.
        sockets: Closes it.
        target: Where the kernel is.
        kernel_id: Which kernel.
        session_id: Names this client to the gateway.
        connects: How often a connection was made.
        patience_s: How long it tries to connect again.
    """

    client: ClientConnection
    sockets: ExitStack = field(kw_only=True)
    target: Target = field(kw_only=True)
    kernel_id: str = field(kw_only=True)
    session_id: str = field(kw_only=True)
    connects: int = 1
    patience_s: float = WAIT_S

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        buffers: tuple[bytes, ...] = (),
        subshell: str | None = None,
    ) -> str:
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": self.session_id,
            "username": "ada",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.4",
            **({"subshell_id": subshell} if subshell else {}),
        }
        message = Message(
            channel, encode_json(header), b"{}", b"{}", encode_json(content), tuple(buffers)
        )
        frame = b"".join(encode_v1(message))
        try:
            self.client.send(frame)
        except ConnectionClosed:
            # What came before the cut can still be unread, so that sending notices it first.
            self._connect_again()
            self.client.send(frame)
        return msg_id

    def _receive(self, timeout_ms: int) -> None:
        try:
            frame = self.client.recv(timeout=timeout_ms / 1000)
        except TimeoutError:
            return
        except ConnectionClosed:
            self._connect_again()
            return
        assert isinstance(frame, bytes)
        message = decode_v1(frame)
        if message.channel == "clouditia":
            return
        names = ("header", "parent_header", "metadata", "content")
        fields = {name: json.loads(bytes(getattr(message, name))) for name in names}
        fields["buffers"] = list(message.buffers)
        self.seen.append(Received(message.channel, fields))

    def _connect_again(self) -> None:
        self.sockets.close()
        wait_until(self._connected, self.patience_s, what="a websocket again", interval_s=0.2)
        self.connects += 1

    def _connected(self) -> bool:
        with suppress(OSError, WebSocketException):
            self.client = self.sockets.enter_context(
                _connect(self.target, self.kernel_id, self.session_id)
            )
            return True
        return False


def _connect(target: Target, kernel_id: str, session_id: str) -> ClientConnection:
    return connect(
        f"ws{target.url[4:]}/api/kernels/{kernel_id}/channels?session_id={session_id}",
        subprotocols=[STOCK_SUBPROTOCOL],
        additional_headers={"Authorization": f"token {target.read_key()}"},
        compression=None,
        max_size=None,
        proxy=None,
    )


@contextmanager
def stock_front_end(target: Target) -> Iterator[StockFrontEnd]:
    """Start a kernel over REST, connect to it, wait until it answers; end both after the block."""
    gateway = GatewayClient(target)
    kernel_id = str(gateway.start_kernel("python3", env={}, path="")["id"])
    try:
        with joined_stock_front_end(target, kernel_id) as front_end:
            yield front_end
    finally:
        gateway.shutdown(kernel_id)


@contextmanager
def joined_stock_front_end(target: Target, kernel_id: str) -> Iterator[StockFrontEnd]:
    """Connect to a kernel that runs, and wait until it answers."""
    session_id = uuid.uuid4().hex
    with ExitStack() as sockets:
        client = sockets.enter_context(_connect(target, kernel_id, session_id))
        front_end = StockFrontEnd(
            client,
            sockets=sockets,
            target=target,
            kernel_id=kernel_id,
            session_id=session_id,
        )
        front_end.ask("kernel_info_request", {})
        yield front_end
