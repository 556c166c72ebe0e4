"""Client websockets against a real server: what arrives, and which error stands for what."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from tests.unit.transport.pipe import WAIT_S, run
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    GatewayUnreachable,
    KernelNotFound,
    PermissionDeniedError,
)
from clouditia.protocol.frames import MAX_FRAME_BYTES
from clouditia.transport.link_runner import TransportClosed
from clouditia.transport.websocket import HandshakeRefused, connect


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def server(
    handler: Callable[[ServerConnection], Awaitable[None]] = echo, **options: Any
) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as running:
        yield f"http://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/k?token=secret"


def test_frames_and_texts_arrive_whole_whatever_they_are_made_of() -> None:
    async def test() -> None:
        async with server() as url:
            transport = await connect(url, headers={})
            await transport.send([b"ab", bytearray(b"cd"), memoryview(b"ef")])
            assert await transport.receive() == b"abcdef"
            await transport.send_text("grüße")
            assert await transport.receive_text() == "grüße"
            large = bytes(MAX_FRAME_BYTES)
            await transport.send([large])
            assert await transport.receive() == large
            await transport.close()
            await transport.close()

    run(test)


def test_the_key_goes_in_a_header_and_the_server_picks_the_subprotocol() -> None:
    seen: list[str | None] = []

    def note(connection: ServerConnection, request: Request) -> None:
        seen.append(request.headers.get("Authorization"))

    async def test() -> None:
        offer = [Subprotocol("b")]
        async with server(process_request=note, subprotocols=offer) as url:
            transport = await connect(
                url, headers={"Authorization": "token k"}, subprotocols=["a", "b"]
            )
            assert transport.subprotocol == "b"
            await transport.close()

    run(test)
    assert seen == ["token k"]


@pytest.mark.parametrize("has_body", [True, False])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, KernelNotFound),
        (410, KernelNotFound),
        (429, HandshakeRefused),
        (500, HandshakeRefused),
        (503, HandshakeRefused),
    ],
)
def test_an_http_refusal_is_the_error_that_it_means(
    status: int, kind: type[ClouditiaError], has_body: bool
) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        body = {"message": "told by the gateway", "hint": "do this"} if has_body else "no JSON {"
        return connection.respond(HTTPStatus(status), json.dumps(body) if has_body else str(body))

    async def test() -> None:
        async with server(process_request=refuse) as url:
            with pytest.raises(ClouditiaError) as caught:
                await connect(url, headers={})
        error = caught.value
        assert type(error) is kind
        assert ("told by the gateway" if has_body else f"HTTP {status}") in error.message
        assert "secret" not in str(error)
        assert error.retryable is (kind is HandshakeRefused)
        assert getattr(error, "status", status) == status

    run(test)


def test_an_error_in_our_own_form_keeps_its_class() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        wire = ConfigError("the host name is not allowed").to_wire()
        return connection.respond(HTTPStatus.FORBIDDEN, json.dumps(wire))

    async def test() -> None:
        async with server(process_request=refuse) as url:
            with pytest.raises(ConfigError, match="host name"):
                await connect(url, headers={})

    run(test)


def test_the_close_code_and_the_reason_of_the_server_are_told() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(4401, "the key was revoked")

    async def test() -> None:
        async with server(close) as url:
            transport = await connect(url, headers={})
            with pytest.raises(TransportClosed, match="4401: the key was revoked") as caught:
                await transport.receive()
            assert caught.value.close_code == 4401
            with pytest.raises(TransportClosed):
                await transport.send([b"late"])
            with pytest.raises(TransportClosed):
                await transport.send_text("late")
            await transport.close()

    run(test)


def test_a_connection_that_breaks_without_a_close_is_1006() -> None:
    async def vanish(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def test() -> None:
        async with server(vanish) as url:
            transport = await connect(url, headers={})
            with pytest.raises(TransportClosed, match="broke") as caught:
                await transport.receive()
            assert (caught.value.close_code, caught.value.retryable) == (1006, True)
            await transport.close()

    run(test)


def test_a_frame_over_8_mib_is_refused_and_ends_the_connection() -> None:
    codes: list[int | None] = []

    async def flood(connection: ServerConnection) -> None:
        await connection.send(bytes(MAX_FRAME_BYTES + 1))
        await connection.wait_closed()
        codes.append(connection.close_code)

    async def test() -> None:
        async with server(flood) as url:
            transport = await connect(url, headers={})
            with pytest.raises(TransportClosed):
                await transport.receive()
            await transport.close()

    run(test)
    assert codes == [1009]


def test_nobody_listening_is_unreachable_and_may_pass() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(GatewayUnreachable, match=f"127.0.0.1:{port}") as caught:
            await connect(f"http://127.0.0.1:{port}/k?token=secret", headers={})
        assert caught.value.retryable
        assert "secret" not in str(caught.value)

    run(test)


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"http://127.0.0.1:{mute.getsockname()[1]}"
            with pytest.raises(GatewayUnreachable) as caught:
                async with asyncio.timeout(WAIT_S):
                    await connect(url, headers={}, open_timeout=0.1)
        assert caught.value.retryable

    run(test)


def test_a_server_that_does_not_speak_http_is_unreachable() -> None:
    async def test() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-none\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            with pytest.raises(GatewayUnreachable):
                await connect(f"http://127.0.0.1:{port}", headers={})

    run(test)


def test_what_is_no_websocket_url_is_a_wrong_argument() -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match="not a websocket URL"):
            await connect("ftp://example.org/k", headers={})

    run(test)
