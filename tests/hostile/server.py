"""A server that says whatever a test wants: HTTP answers from a table, websockets byte by byte.

Written on bare sockets, because a library would refuse to send most of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KERNEL = "00000000-0000-4000-8000-000000000001"
BINARY, TEXT, CONTINUATION = 2, 1, 0
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Answer:
    """An HTTP answer; ``length`` may lie."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Peer:
    """The server's end of a websocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, payload: bytes, *, opcode: int = BINARY, fin: bool = True) -> None:
        """One frame."""
        head = bytes([opcode | (0x80 if fin else 0)])
        size = len(payload)
        if size < 126:
            head += bytes([size])
        elif size < 65536:
            head += struct.pack("!BH", 126, size)
        else:
            head += struct.pack("!BQ", 127, size)
        await self.send_raw(head + payload)

    async def send_raw(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def receive(self) -> bytes:
        """The payload of the next frame."""
        _, length = await self._reader.readexactly(2)
        size = length & 0x7F
        if size == 126:
            size = struct.unpack("!H", await self._reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self._reader.readexactly(8))[0]
        mask = await self._reader.readexactly(4)
        payload = await self._reader.readexactly(size)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    async def until_gone(self) -> None:
        """Read until the client leaves, or says that it wants to."""
        while (raw := await self._reader.read(65536)) and b"\x88" not in raw:
            pass


Script = Callable[[Peer], Awaitable[None]]


async def say_nothing(peer: Peer) -> None:
    """A websocket on which nothing comes."""
    await peer.until_gone()


def kernel_model(**fields: object) -> dict[str, object]:
    return {
        "id": KERNEL,
        "name": "python3",
        "execution_state": "busy",
        "connections": 1,
        "last_activity": "2026-01-01T00:00:00Z",
        **fields,
    }


def gateway_answers() -> dict[str, Answer]:
    """What a well-behaved gateway says."""
    spec = {"display_name": "Python 3", "language": "python"}
    return {
        "GET /clouditia/api/v1/info": Answer({"version": "3.0", "protocol": 1}),
        "GET /api/me": Answer({"identity": {"username": "ada"}}),
        "GET /api": Answer({"version": "2.21"}),
        "GET /api/kernelspecs": Answer({"kernelspecs": {"python3": {"spec": spec}}}),
        "GET /api/kernels": Answer([kernel_model()]),
        f"GET /api/kernels/{KERNEL}": Answer(kernel_model()),
        "POST /api/kernels": Answer(kernel_model(), 201),
    }


class HostileServer:
    """Listens on a loopback port in a thread of its own.

    Attributes:
        answers: By ``"METHOD /path"``; all else is 204.
        script: Runs on each websocket.
        scenes: ``GET /scene/N`` calls the Nth, which changes what comes next.
        seen: Method, path and headers of every request.
    """

    def __init__(self, *, is_gateway: bool = True) -> None:
        self.is_gateway = is_gateway
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Behave well again."""
        self.answers = gateway_answers()
        if not self.is_gateway:
            del self.answers["GET /clouditia/api/v1/info"]
        self.default = Answer(b"", 204)
        self.script: Script = say_nothing
        self.scenes: list[Callable[[], None]] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls))
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in map(_split, head[1:-2])}
        await reader.readexactly(int(headers.get("content-length", "0")))
        if path.startswith("/scene/"):
            self.scenes[int(path.removeprefix("/scene/"))]()
            writer.write(b"HTTP/1.1 204 Said\r\nConnection: close\r\n\r\n")
            return
        self.seen.append((method, path, headers))
        path = path.partition("?")[0]
        is_upgrade = "upgrade" in headers.get("connection", "").lower()
        if is_upgrade and f"{method} {path}" not in self.answers:
            await self._upgrade(headers, Peer(reader, writer))
            return
        answer = self.answers.get(f"{method} {path}", self.default)
        body = b"" if answer.status == 204 else answer.raw()
        sent = {"Content-Length": str(len(body) if answer.length is None else answer.length)}
        sent |= {"Connection": "close", **answer.headers}
        if self.is_gateway:
            sent.setdefault("X-Clouditia-Protocol", "1")
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"HTTP/1.1 {answer.status} Said\r\n{lines}\r\n".encode() + body)
        await writer.drain()

    async def _upgrade(self, headers: dict[str, str], peer: Peer) -> None:
        accept = hashlib.sha1(headers["sec-websocket-key"].encode() + _ACCEPT).digest()
        offered = headers.get("sec-websocket-protocol", "").partition(",")[0]
        lines = f"Sec-WebSocket-Accept: {base64.b64encode(accept).decode()}\r\n"
        lines += f"Sec-WebSocket-Protocol: {offered}\r\n" if offered else ""
        lines = f"Upgrade: websocket\r\nConnection: Upgrade\r\n{lines}\r\n"
        await peer.send_raw(f"HTTP/1.1 101 Go\r\n{lines}".encode())
        await self.script(peer)
        await peer.until_gone()


def _split(line: str) -> Any:
    return line.partition(":")
