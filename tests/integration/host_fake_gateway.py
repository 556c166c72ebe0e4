"""The gateway's end of docs/host-protocol.md, for tests of the kernel host alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import TransportClosed

WAIT_S = 20.0


class ServerTransport:
    """The gateway's end of a data connection as a transport of a client link."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def send(self, parts: list[Any]) -> None:
        try:
            await self._connection.send(b"".join(parts))
        except ConnectionClosed as exc:
            raise TransportClosed("closed") from exc

    async def receive(self) -> bytes:
        try:
            frame = await self._connection.recv()
        except ConnectionClosed as exc:
            raise TransportClosed("closed") from exc
        assert isinstance(frame, bytes)
        return frame

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)


class FakeGateway:
    """Accepts kernel hosts; remembers their hellos and states."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "gateway.json"
        self.tokens: list[str] = []
        self.hellos: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self.refuse_with: int | None = None
        self.limits: dict[str, Any] = {}
        self._control: ServerConnection | None = None
        self._offers: dict[str, asyncio.Future[ServerConnection]] = {}
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._server: Any = None
        self._port = 0

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, max_size=None, compression=None
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self.file.write_text(json.dumps({"host_url": f"http://127.0.0.1:{self._port}"}))

    async def stop(self) -> None:
        self._control = None
        self._server.close()
        await self._server.wait_closed()

    @property
    def state(self) -> dict[str, Any]:
        return self.states[-1] if self.states else {}

    @property
    def is_connected(self) -> bool:
        return self._control is not None

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.tokens.append(connection.request.headers["Authorization"])
        *_, route = path = connection.request.path.split("/")
        with contextlib.suppress(ConnectionClosed):
            if path[-2] == "data":
                self._offers[route].set_result(connection)
                await connection.wait_closed()
            else:
                await self._serve_control(connection)

    async def _serve_control(self, connection: ServerConnection) -> None:
        hello = json.loads(await connection.recv())
        self.hellos.append(hello)
        self.states.append(hello["state"])
        if self.refuse_with is not None:
            await connection.close(self.refuse_with, "no")
            return
        await connection.send(json.dumps({"type": "welcome", "limits": self.limits}))
        self._control = connection
        try:
            async for raw in connection:
                message = json.loads(raw)
                if message["type"] == "state":
                    self.states.append(message["state"])
                else:
                    self._replies[message["id"]].set_result(message)
        finally:
            if self._control is connection:
                self._control = None

    async def _tell(self, **message: Any) -> None:
        await wait_until_async(lambda: self.is_connected, WAIT_S, what="the host is connected")
        assert self._control is not None
        await self._control.send(json.dumps(message))

    async def open(self) -> ServerTransport:
        connection_id = uuid.uuid4().hex
        offer = self._offers[connection_id] = asyncio.get_running_loop().create_future()
        await self._tell(type="open", connection_id=connection_id, client={"user": "ada"})
        async with asyncio.timeout(WAIT_S):
            return ServerTransport(await offer)

    async def request(self, method: str) -> dict[str, Any]:
        request_id = uuid.uuid4().hex
        reply = self._replies[request_id] = asyncio.get_running_loop().create_future()
        await self._tell(type="request", id=request_id, method=method, params={})
        async with asyncio.timeout(WAIT_S):
            answer: dict[str, Any] = await reply
            return answer
