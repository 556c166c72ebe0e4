"""A client that behaves as a page of JupyterLab does: one websocket, and how it comes back."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from typing import Any

from tools.faults.client import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from clouditia.errors import ClouditiaError
from clouditia.protocol.messages import (
    Message,
    decode_legacy,
    decode_v1,
    encode_json,
    encode_legacy,
    encode_v1,
)

_V1 = Subprotocol("v1.kernel.websocket.jupyter.org")
#: JupyterLab's own limit and pauses.
_ATTEMPTS = 7
_OPEN_S = 20.0


class Page(Client):
    """Connects again under the same ``session_id``, up to seven times in a row.

    Args:
        url: Of the server, without a slash at the end.
        token: What it wants to hear.
        kernel_id: The kernel.
    """

    def __init__(self, url: str, token: str, kernel_id: str) -> None:
        super().__init__()
        self.kernel_id = kernel_id
        self.session_id = uuid.uuid4().hex
        query = f"session_id={self.session_id}"
        self._url = f"ws{url[4:]}/api/kernels/{kernel_id}/channels?{query}"
        self._headers = {"Authorization": f"token {token}"}
        self._socket: ClientConnection | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page")
        self._thread.start()
        self._task = asyncio.run_coroutine_threadsafe(self._live(), self._loop)

    def execute(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        return self.send("shell", "execute_request", content)

    def send(self, channel: str, msg_type: str, content: dict[str, Any]) -> str:
        """Send a request; returns its ``msg_id``. A page that is cut off sends nothing."""
        msg_id = uuid.uuid4().hex
        header = {"msg_id": msg_id, "msg_type": msg_type, "session": self.session_id}
        header |= {"username": "", "date": "2026-01-01T00:00:00Z", "version": "5.4"}
        message = Message(channel, encode_json(header), b"{}", b"{}", encode_json(content), ())

        async def send() -> None:
            if self._socket is not None:
                is_v1 = self._socket.subprotocol == _V1
                frame = b"".join(encode_v1(message)) if is_v1 else encode_legacy(message)
                await self._socket.send(frame)

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(_OPEN_S)
        return msg_id

    def is_connected(self, timeout_s: float) -> bool:
        """Whether the websocket is open."""
        return self.wait(lambda: self._socket, timeout_s)

    def is_ready(self, timeout_s: float) -> bool:
        """Whether the kernel answers."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.wait(lambda: self._socket, 5.0):
                asked = self.send("shell", "kernel_info_request", {})
                if self.wait(lambda asked=asked: self.of(asked, "kernel_info_reply"), 3.0):  # type: ignore[misc]
                    return True
        return False

    def sleep(self) -> None:
        self._call_on_transport("pause_reading")

    def wake(self) -> None:
        self._call_on_transport("resume_reading")

    def _call_on_transport(self, method: str) -> None:
        if self._socket is not None:
            self._loop.call_soon_threadsafe(getattr(self._socket.transport, method))

    def close(self) -> None:
        self._task.cancel()

        async def drain() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(drain(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _live(self) -> None:
        attempts = 0
        while attempts <= _ATTEMPTS:
            try:
                socket = await connect(
                    self._url,
                    additional_headers=self._headers,
                    subprotocols=[_V1],
                    compression=None,
                    max_size=None,
                    ping_interval=None,  # browsers send none
                    open_timeout=_OPEN_S,
                    proxy=None,
                )
            except (OSError, TimeoutError, WebSocketException):
                attempts += 1
            else:
                attempts = 0
                await self._read(socket)
            pause_s = random.uniform(0, 2**attempts - 1) if attempts else 0.0  # noqa: S311
            await asyncio.sleep(pause_s)
        self.errors.append((time.monotonic(), "the page gave up after 7 attempts"))

    async def _read(self, socket: ClientConnection) -> None:
        self._socket = socket
        try:
            while True:
                self._take(await socket.recv(), is_v1=socket.subprotocol == _V1)
        except ConnectionClosed:
            self.closes.append(time.monotonic())
        finally:
            self._socket = None
            socket.transport.abort()

    def _take(self, frame: bytes | str, *, is_v1: bool) -> None:
        try:
            message = (
                decode_v1(frame) if is_v1 and isinstance(frame, bytes) else decode_legacy(frame)
            )
            names = ("header", "parent_header", "metadata", "content")
            fields = {name: json.loads(bytes(getattr(message, name))) for name in names}
        except (ClouditiaError, ValueError) as exc:
            self.errors.append((time.monotonic(), f"a malformed message: {exc}"))
            return
        fields["buffers"] = [bytes(each) for each in message.buffers]
        self.note(str(fields["parent_header"].get("msg_id", "")), fields)
