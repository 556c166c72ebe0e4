"""What a channels test needs around them: a bare gateway, kernel hosts that dial in, and clients.

Everything runs on the test's own event loop; hosts and clients are real websockets. The registry is
a small fake, because who owns what is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from clouditia.errors import AuthenticationError, KernelNotFound
from clouditia.protocol.handshake import STOCK_SUBPROTOCOL, SUBPROTOCOL, Welcome, resume_point
from clouditia.protocol.link import Delivered, HelloReceived, Link, Role
from clouditia.protocol.messages import (
    Buffer,
    Message,
    decode_json,
    decode_v1,
    encode_json,
    encode_v1,
)
from clouditia.protocol.outbox import Outbox
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import LinkRunner, TransportClosed
from clouditia_gateway.audit.log import NoAudit
from clouditia_gateway.auth import Authentication
from clouditia_gateway.channels.handed_over import HandedOver
from clouditia_gateway.channels.handlers import websocket_handlers
from clouditia_gateway.channels.hub import HostHub
from clouditia_gateway.config import GatewayConfig
from clouditia_gateway.context import SETTING
from clouditia_gateway.errors import StaleHostError
from clouditia_gateway.host.lifespan import NO_LIMITS
from clouditia_gateway.live import LiveConnections
from clouditia_gateway.records import HostState, KernelRecord, Principal

KERNEL = "0b5c7a70-0000-4000-8000-000000000001"
ALICE, BOB = Principal("alice", "k1"), Principal("bob", "k2")
KEYS = {"ck_alice": ALICE, "ck_bob": BOB}
#: Host tokens by fence.
TOKENS = {1: "token-of-fence-1", 2: "token-of-fence-2"}
WAIT_S = 10.0
WELCOME = {"type": "welcome", "limits": NO_LIMITS.to_wire()}


class FakeAuthenticator:
    def authenticate(self, request: Any, *, allow_query_token: bool = False) -> Authentication:
        header = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.query_arguments.get("token", [b""])[0].decode()
        key = header or (token if allow_query_token else "")
        if key not in KEYS:
            raise AuthenticationError("unknown key")
        return Authentication(KEYS[key], "header" if header else "query")


@dataclass
class FakeRegistry:
    """One kernel of Alice's; remembers what the hub told it."""

    hub: HostHub
    fence: int = 1
    told: list[tuple[str, str]] = field(default_factory=list)
    on_ensure: Callable[[], Awaitable[None]] | None = None
    is_ended: bool = False

    def record(self) -> KernelRecord:
        return KernelRecord(
            KERNEL, "alice", "python3", "Python 3", "", "/nowhere", self.fence, "", "", ""
        )

    def get_kernel(self, kernel_id: str, principal: Principal) -> KernelRecord:
        if kernel_id != KERNEL or principal.user != "alice" or self.is_ended:
            raise KernelNotFound(f"there is no kernel {kernel_id}")
        return self.record()

    async def ensure_host(self, record: KernelRecord) -> KernelRecord:
        if self.on_ensure is not None:
            await self.on_ensure()
        await self.hub.wait_connected(record.kernel_id, WAIT_S)
        return record

    def authenticate_host(self, kernel_id: str, token: str) -> KernelRecord:
        if kernel_id != KERNEL:
            raise KernelNotFound(f"there is no kernel {kernel_id}")
        if token not in TOKENS.values():
            raise AuthenticationError("the host token is not one of this kernel's")
        if token != TOKENS[self.fence]:
            raise StaleHostError("a newer host was launched")
        return self.record()

    def host_connected(self, kernel_id: str, state: HostState) -> None:
        self.told.append(("connected", state.execution_state))

    def state_changed(self, kernel_id: str, state: HostState) -> None:
        self.told.append(("state", state.execution_state))

    def host_lost(self, kernel_id: str) -> None:
        self.told.append(("lost", kernel_id))


class BareGateway:
    """The websocket routes in a bare tornado application on a loopback port.

    Args:
        socket_buffer_bytes: What the system may hold for each of its connections and direction;
            by default it decides itself, on some machines for tens of megabytes.
    """

    def __init__(self, socket_buffer_bytes: int | None = None) -> None:
        self.hub = HostHub()
        self.registry = FakeRegistry(self.hub)
        self.live = LiveConnections()
        context: Any = SimpleNamespace(
            hub=self.hub,
            registry=self.registry,
            authenticator=FakeAuthenticator(),
            live_connections=self.live,
            handed_over=HandedOver(self.live, self.hub.tell),
            audit=NoAudit(),
            config=GatewayConfig(Path("/nowhere")),
        )
        routes = websocket_handlers(context)
        self.stock_sessions = routes[-1][2]["stock_sessions"]
        application = tornado.web.Application(routes, **{SETTING: context})
        self._server = tornado.httpserver.HTTPServer(application)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        if socket_buffer_bytes is not None:
            for listener in sockets:  # what they accept inherits them
                bound_buffers(listener, socket_buffer_bytes)
        self._server.add_sockets(sockets)
        self.url = f"ws://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.opened: list[ClientConnection] = []

    async def open(self, path: str, key: str, **options: Any) -> ClientConnection:
        options.setdefault("max_size", None)
        connection = await connect(
            self.url + path,
            additional_headers={"Authorization": f"Bearer {key}", **options.pop("headers", {})},
            compression=None,
            ping_interval=None,
            close_timeout=1,
            **options,
        )
        self.opened.append(connection)
        return connection

    async def control(self, *, fence: int = 1, token: str | None = None) -> ClientConnection:
        """A host's control connection after its hello."""
        connection = await self.open(
            f"/clouditia/host/v1/{KERNEL}/control", TOKENS[fence] if token is None else token
        )
        with contextlib.suppress(ConnectionClosed):  # refused already
            await connection.send(json.dumps(host_hello(fence=fence)))
        return connection

    async def data(self, connection_id: str, *, fence: int = 1) -> ClientConnection:
        path = f"/clouditia/host/v1/{KERNEL}/data/{connection_id}"
        return await self.open(path, TOKENS[fence])

    async def client(
        self,
        *subprotocols: str,
        session_id: str | None = None,
        key: str = "ck_alice",
        **options: Any,
    ) -> ClientConnection:
        query = "" if session_id is None else f"?session_id={session_id}"
        offered = [Subprotocol(name) for name in subprotocols] or None
        path = f"/api/kernels/{KERNEL}/channels{query}"
        return await self.open(path, key, subprotocols=offered, **options)

    async def aclose(self) -> None:
        for connection in self.opened:
            await connection.close()
        self.hub.close_all()
        self._server.stop()
        await self._server.close_all_connections()


def bound_buffers(connection: socket.socket, size: int) -> None:
    """Let the system hold no more than about ``size`` bytes for each direction of a socket."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, size)


@asynccontextmanager
async def bare_gateway(*, socket_buffer_bytes: int | None = None) -> AsyncIterator[BareGateway]:
    gateway = BareGateway(socket_buffer_bytes)
    try:
        yield gateway
    finally:
        await gateway.aclose()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(limited())


def host_hello(*, fence: int = 1, execution_state: str = "idle") -> dict[str, Any]:
    return {
        "type": "hello",
        "protocol": [1, 1],
        "version": "3",
        "kernel_id": KERNEL,
        "fence": fence,
        "state": {"epoch": 1, "execution_state": execution_state},
    }


async def next_json(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        fields: dict[str, Any] = json.loads(await connection.recv())
        return fields


async def close_code(connection: ClientConnection) -> int | None:
    """The code with which the gateway closed a connection."""
    async with asyncio.timeout(WAIT_S):
        await connection.wait_closed()
    return connection.close_code


@asynccontextmanager
async def joined(gateway: BareGateway) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    """A resume client and the host's end of its data connection."""
    control = await gateway.control()
    assert (await next_json(control))["type"] == "welcome"
    client = await gateway.client(SUBPROTOCOL)
    opening = await next_json(control)
    data = await gateway.data(opening["connection_id"])
    yield client, data


class HostEnd:
    """A websocket of the fake host as a transport for the link."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, parts: list[Any]) -> None:
        try:
            await self._connection.send(b"".join(parts))
        except Exception as exc:
            raise TransportClosed(str(exc)) from exc

    async def receive(self) -> bytes:
        try:
            message = await self._connection.recv()
        except Exception as exc:
            raise TransportClosed(str(exc)) from exc
        assert isinstance(message, bytes)
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)


class FakeHost:
    """A kernel host with the real link protocol and a scripted kernel.

    Attributes:
        journal: What was sent to clients, in order.
        requests: What came from clients, in order, with the client id.
        respond: Called with each request; what it appends to the journal goes out.
    """

    def __init__(self, gateway: BareGateway, respond: Callable[[FakeHost, Message], None]) -> None:
        self._gateway = gateway
        self._respond = respond
        self._links: dict[str, Link] = {}
        self._runners: dict[str, LinkRunner] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self.journal = Outbox(max_bytes=2**30)
        self.journal.release = lambda ack: None  # type: ignore[method-assign]  # acks never trim
        self.requests: list[tuple[str, Message]] = []
        self.data: list[ClientConnection] = []
        self.epoch = 1
        self.execution_state = "idle"

    async def __aenter__(self) -> FakeHost:
        self.control = await self._gateway.control()
        assert (await next_json(self.control))["type"] == "welcome"
        self._tasks.append(asyncio.create_task(self._serve_control()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve_control(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                message = json.loads(await self.control.recv())
                if message["type"] == "open":
                    data = await self._gateway.data(message["connection_id"])
                    self.data.append(data)
                    self._tasks.append(asyncio.create_task(self._serve(data)))

    async def _serve(self, data: ClientConnection) -> None:
        end = HostEnd(data)
        first = await end.receive()
        client_id = json.loads(first[1:])["client_id"]
        if client_id not in self._links:
            self._links[client_id] = Link(Role.HOST, self.journal)
            self._runners[client_id] = LinkRunner(
                self._links[client_id], on_event=lambda event: self._on_event(client_id, event)
            )
        await self._runners[client_id].run(end, first)

    def _on_event(self, client_id: str, event: Any) -> None:
        link = self._links[client_id]
        if isinstance(event, HelloReceived):
            known = link.peer_acked or None
            start, _ = resume_point(
                event.hello,
                remembered=known,
                first_seq=1,
                next_seq=self.journal.next_seq,
                unfinished=1,
            )
            link.accept(
                Welcome(
                    kernel_id=KERNEL,
                    epoch=self.epoch,
                    received=link.received,
                    next=start,
                    window=8 * 1024 * 1024,
                    state={"epoch": self.epoch, "execution_state": self.execution_state},
                ),
                asyncio.get_running_loop().time(),
            )
        elif isinstance(event, Delivered):
            message = decode_v1(bytes(event.frame))
            self.requests.append((client_id, message))
            self._respond(self, message)
            link.handled(event.seq)
            self.publish()

    def append(self, message: Message) -> None:
        self.journal.append(encode_v1(message))

    def publish(self) -> None:
        for runner in self._runners.values():
            runner.wake()

    def acked(self) -> int:
        """How far the client that is furthest behind is."""
        return min(link.peer_acked for link in self._links.values())

    async def cut(self) -> None:
        """Lose every data connection without a goodbye."""
        for data in self.data:
            data.transport.abort()
        self.data.clear()


def request(
    msg_id: str, *, session: str = "s", buffers: tuple[bytes, ...] = (), channel: str = "shell"
) -> Message:
    header = {"msg_id": msg_id, "msg_type": "execute_request", "session": session, "version": "5.3"}
    return Message(channel, encode_json(header), b"{}", b"{}", b'{"code":"1"}', buffers)


def answer(
    to: Message | None,
    channel: str,
    msg_type: str,
    content: dict[str, Any],
    buffers: tuple[Buffer, ...] = (),
) -> Message:
    header = {"msg_id": f"{msg_type}-reply", "msg_type": msg_type, "session": "kernel"}
    parent = bytes(to.header) if to is not None else b"{}"
    return Message(channel, encode_json(header), parent, b"{}", encode_json(content), buffers)


def v1_bytes(message: Message) -> bytes:
    return b"".join(encode_v1(message))


def described(frame: str | bytes) -> tuple[str, str, dict[str, Any]]:
    """(channel, msg_type, content) of a v1 frame or a legacy text."""
    if isinstance(frame, str):
        fields = json.loads(frame)
        return fields["channel"], fields["header"]["msg_type"], fields["content"]
    message = decode_v1(frame)
    header = decode_json(message.header)
    return message.channel, header["msg_type"], decode_json(message.content)


async def received(connection: ClientConnection, count: int) -> list[tuple[str, str, Any]]:
    async with asyncio.timeout(WAIT_S):
        return [described(await connection.recv()) for _ in range(count)]


__all__ = [
    "ALICE",
    "KERNEL",
    "STOCK_SUBPROTOCOL",
    "SUBPROTOCOL",
    "WAIT_S",
    "WELCOME",
    "BareGateway",
    "FakeHost",
    "answer",
    "bare_gateway",
    "close_code",
    "described",
    "host_hello",
    "joined",
    "next_json",
    "received",
    "request",
    "run",
    "v1_bytes",
    "wait_until_async",
]
