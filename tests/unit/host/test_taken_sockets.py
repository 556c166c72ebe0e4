"""A client's socket goes from the gateway to the kernel's host, and what each keeps of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.unit.transport.pipe import WAIT_S, run
from tornado.iostream import IOStream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol

from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import FrameTransport, TransportClosed
from clouditia_gateway.channels.handed_over import HandedOver, open_line, path_offered
from clouditia_gateway.host.taken_sockets import TakenSockets
from clouditia_gateway.live import LiveConnections
from clouditia_gateway.records import Principal

KERNEL = "k"
ADA = Principal("ada", "key-of-ada")


async def echo(transport: FrameTransport) -> None:
    """Serve a client in the host's place."""
    with suppress(TransportClosed):
        while True:
            await transport.send([await transport.receive()])


class Machine:
    """Both ends of a hand-over, without what is around them."""

    def __init__(self, directory: Path, kept_s: float = 60.0) -> None:
        self.taken = TakenSockets(directory, echo, kept_s=kept_s)
        self.left: list[str] = []
        self.told: list[Mapping[str, Any]] = []
        self.live = LiveConnections()
        self.handed_over = HandedOver(self.live, lambda _kernel, message: self.told.append(message))
        self.directory = directory

    async def __aenter__(self) -> Machine:
        self.taken.listen()
        self.taken.on_left = self.left.append
        self.say_hello()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.taken.close()
        await asyncio.sleep(0)

    def say_hello(self) -> None:
        offer = self.taken.offer
        path = path_offered(offer, self.directory)
        self.handed_over.host_arrived(KERNEL, path, offer.get("links"))

    async def client(self) -> ClientConnection:
        """A websocket client, upgraded by "the gateway" and handed over."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            connecting = asyncio.create_task(_connect(listening.getsockname()[1]))
            accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        await _upgrade(accepted)
        stream = IOStream(accepted)
        line = self.handed_over.line_to(KERNEL)
        assert line is not None
        with line:
            assert self.handed_over.hand_over(KERNEL, ADA, stream, line)
        stream.close()
        return await connecting


async def _connect(port: int) -> ClientConnection:
    return await connect(f"ws://127.0.0.1:{port}", compression=None)


async def _upgrade(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    protocol = ServerProtocol()
    protocol.receive_data(await loop.sock_recv(accepted, 65536))
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    await loop.sock_sendall(accepted, b"".join(protocol.data_to_send()))


def test_a_handed_over_client_talks_to_the_host(tmp_path: Path) -> None:
    async def test() -> None:
        async with Machine(tmp_path) as machine, await machine.client() as client:
            await client.send(b"over there")
            assert await client.recv() == b"over there"
            assert machine.live.key_ids == {ADA.key_id}
            await client.close()
            await wait_until_async(lambda: machine.left, WAIT_S)
            machine.handed_over.link_left(KERNEL, machine.left[0])
            assert machine.live.key_ids == set()

    run(test)


def test_a_revoked_key_closes_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with Machine(tmp_path) as machine, await machine.client() as client:
            await client.send(b"served")
            assert await client.recv() == b"served"
            assert machine.live.close_key(ADA.key_id, "this key was revoked") == 1
            (message,) = machine.told
            assert message["type"] == "drop"
            machine.taken.drop(message["connection_id"], message["code"], message["reason"])
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
            assert closed.value.rcvd.reason == "this key was revoked"

    run(test)


def test_a_restarted_gateway_learns_of_the_links_that_the_host_holds(tmp_path: Path) -> None:
    async def test() -> None:
        async with Machine(tmp_path) as machine, await machine.client() as client:
            await client.send(b"served")
            assert await client.recv() == b"served"
            machine.handed_over.host_left(KERNEL)
            assert machine.live.key_ids == set()
            assert machine.handed_over.line_to(KERNEL) is None
            machine.say_hello()
            assert machine.live.key_ids == {ADA.key_id}

    run(test)


def test_links_end_when_the_gateway_stays_away_and_only_then(tmp_path: Path) -> None:
    async def test() -> None:
        async with Machine(tmp_path, kept_s=0.05) as machine, await machine.client() as client:
            machine.taken.gateway_lost()
            machine.taken.gateway_found()
            assert machine.taken._let_go is None
            await client.send(b"still served")
            assert await client.recv() == b"still served"
            machine.taken.gateway_lost()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001

    run(test)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}"])
def test_what_is_no_hand_over_is_dropped(tmp_path: Path, note: bytes) -> None:
    async def test() -> None:
        async with Machine(tmp_path) as machine:
            line = open_line(str(tmp_path / "take"))
            assert line is not None
            with line:
                if note:
                    line.send(note)
            async with asyncio.timeout(WAIT_S), await machine.client() as client:
                await client.send(b"the next one is served")
                assert await client.recv() == b"the next one is served"
            assert not machine.taken._lines

    run(test)


@pytest.mark.parametrize(
    "hello",
    [{}, {"takes_sockets": "/elsewhere/take"}, {"takes_sockets": 1}, {"takes_sockets": None}],
)
def test_only_the_kernels_own_directory_is_written_to(
    tmp_path: Path, hello: dict[str, Any]
) -> None:
    assert path_offered(hello, tmp_path) is None


def test_a_directory_too_long_for_a_unix_socket_means_that_links_are_relayed(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        directory = tmp_path / ("d" * 100)
        directory.mkdir()
        async with Machine(directory) as machine:
            assert machine.taken.offer == {}
            assert machine.handed_over.line_to(KERNEL) is None

    run(test)


def test_the_socket_of_a_killed_host_is_taken_over_by_the_next(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.bind(str(tmp_path / "take"))

    async def test() -> None:
        async with Machine(tmp_path) as machine, await machine.client() as client:
            await client.send(b"served")
            assert await client.recv() == b"served"

    run(test)
    assert not (tmp_path / "take").exists()
