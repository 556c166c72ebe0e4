"""Resume links through the gateway: forwarded unread, with back-pressure, and closed fittingly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os

import psutil
import pytest
from tests.integration.channels_harness import (
    ALICE,
    KERNEL,
    STOCK_SUBPROTOCOL,
    SUBPROTOCOL,
    bare_gateway,
    bound_buffers,
    close_code,
    joined,
    next_json,
    run,
    wait_until_async,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus

from clouditia_gateway.channels.host_handlers import HostDataHandler
from clouditia_gateway.channels.socket import ChannelSocket

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 200_000, 8 * MIB])
def test_frames_of_any_allowed_size_pass_unchanged_in_both_directions(size: int) -> None:
    async def test() -> None:
        frame = os.urandom(size)
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            await client.send(frame)
            assert await host.recv() == frame
            await host.send(frame)
            assert await client.recv() == frame

    run(test())


def test_frames_keep_their_order_and_borders() -> None:
    async def test() -> None:
        frames = [bytes([n % 256]) * (n * 37 % 5000 + 1) for n in range(500)]
        async with bare_gateway() as gateway, joined(gateway) as (client, host):

            async def send() -> None:
                for frame in frames:
                    await client.send(frame)

            sending = asyncio.create_task(send())
            assert [await host.recv() for _ in frames] == frames
            await sending

    run(test())


@pytest.mark.parametrize("sender", ["client", "host"])
def test_a_frame_over_8_mib_closes_the_connection_with_1009(sender: str) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            source = client if sender == "client" else host
            with contextlib.suppress(ConnectionClosed):
                await source.send(bytes(8 * MIB + 1))
            assert await close_code(host if sender == "client" else client) in (1001, 4503)

    run(test())


def test_a_reader_that_stops_holds_the_producer_and_not_the_gateways_memory() -> None:
    async def test() -> None:
        frame = os.urandom(MIB)
        offered = 100
        async with (
            bare_gateway(socket_buffer_bytes=MIB) as gateway,
            joined(gateway) as (client, host),
        ):
            for connection in (client, host):
                bound_buffers(connection.transport.get_extra_info("socket"), MIB)
            client.transport.pause_reading()
            sent = 0

            async def produce() -> None:
                nonlocal sent
                for _ in range(offered):
                    await host.send(frame)
                    sent += 1

            gc.collect()
            before = psutil.Process().memory_info().rss
            producing = asyncio.create_task(produce())
            socket = next(iter(gateway.live._by_key["k1"].values())).__self__  # type: ignore[attr-defined]
            assert isinstance(socket, ChannelSocket)
            await wait_until_async(lambda: socket.unsent_bytes > socket.high_water_bytes, 20)
            held = sent
            control = gateway.opened[0]
            for _ in range(50):  # the gateway is busy with others, the producer does not move
                await (await control.ping())
            assert sent <= held + 8, "the producer went on although nobody read"
            assert sent < 60
            assert socket.unsent_bytes <= 32 * MIB
            # The test's own host and the socket buffers of this process count here too.
            assert psutil.Process().memory_info().rss - before <= 64 * MIB

            client.transport.resume_reading()
            for _ in range(offered):
                assert await client.recv() == frame
            await producing
            assert sent == offered
            assert socket.unsent_bytes == 0

    run(test())


def test_a_slow_client_does_not_hold_another_one() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.control()
            await next_json(control)
            slow = await gateway.client(SUBPROTOCOL)
            slow_data = await gateway.data((await next_json(control))["connection_id"])
            quick = await gateway.client(SUBPROTOCOL)
            quick_data = await gateway.data((await next_json(control))["connection_id"])
            slow.transport.pause_reading()

            async def flood() -> None:
                while True:
                    await slow_data.send(bytes(MIB))

            flooding = asyncio.create_task(flood())
            for number in range(50):
                await quick_data.send(b"%d" % number)
                assert await quick.recv() == b"%d" % number
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            slow.transport.abort()
            slow_data.transport.abort()

    run(test())


def test_a_lost_host_closes_the_client_with_4503_so_that_it_reconnects() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            host.transport.abort()
            assert await close_code(client) == 4503
            assert client.close_reason == "kernel host lost"

    run(test())


def test_a_hosts_own_close_code_reaches_the_client() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            await host.close(4404, "the kernel has ended")
            assert await close_code(client) == 4404
            assert client.close_reason == "the kernel has ended"

    run(test())


def test_a_client_that_leaves_ends_its_data_connection_only() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            client.transport.abort()
            assert await close_code(host) == 1001
            assert gateway.hub.is_connected(KERNEL)
            await wait_until_async(lambda: len(gateway.live) == 0, 5)

    run(test())


def test_a_text_message_on_a_resume_link_is_refused_with_1003() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, _):
            await client.send("text")
            assert await close_code(client) == 1003

    run(test())


def test_a_revoked_key_closes_the_client_with_4401() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            assert gateway.live.close_key(ALICE.key_id, "the key was revoked") == 1
            async with asyncio.timeout(5):
                assert await close_code(client) == 4401
                await close_code(host)

    run(test())


def test_a_client_waits_for_a_host_that_is_away_and_its_hello_is_kept() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            asked = asyncio.Event()

            async def launched() -> None:
                asked.set()

            gateway.registry.on_ensure = launched
            client = await gateway.client(SUBPROTOCOL)
            await client.send(b"hello")
            await asked.wait()
            await (await client.ping())  # answered although nobody is there to take the hello
            await client.send(b"more")
            control = await gateway.control()
            await next_json(control)
            host = await gateway.data((await next_json(control))["connection_id"])
            assert [await host.recv(), await host.recv()] == [b"hello", b"more"]

    run(test())


def test_a_host_that_does_not_come_closes_the_client_with_4503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clouditia_gateway.channels.host_access.HOST_WAIT_S", 0.1)

    async def test() -> None:
        async with bare_gateway() as gateway:
            client = await gateway.client(SUBPROTOCOL)
            assert await close_code(client) == 4503
            assert "did not" in (client.close_reason or "")

    run(test())


def test_the_older_hosts_data_connections_end_when_a_newer_host_comes() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            gateway.registry.fence = 2
            await gateway.control(fence=2)
            assert await close_code(host) == 4409
            assert await close_code(client) == 4409

    run(test())


def test_resume_is_preferred_then_v1_and_unknown_offers_get_the_legacy_form() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            await gateway.control()
            for offered, agreed in [
                ((STOCK_SUBPROTOCOL, SUBPROTOCOL), SUBPROTOCOL),
                ((SUBPROTOCOL,), SUBPROTOCOL),
                (("something.else", STOCK_SUBPROTOCOL), STOCK_SUBPROTOCOL),
                (("something.else",), None),
                ((), None),
            ]:
                client = await gateway.client(*offered)
                assert client.subprotocol == agreed
                assert not client.protocol.extensions
                await client.close()

    run(test())


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (f"/api/kernels/{KERNEL}/channels", "ck_bob", 404),
        ("/api/kernels/no-such-kernel/channels", "ck_alice", 404),
        (f"/api/kernels/{KERNEL}/channels", "wrong", 401),
    ],
)
def test_strangers_are_refused_before_the_upgrade(path: str, key: str, status: int) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            with pytest.raises(InvalidStatus) as refused:
                await gateway.open(path, key)
            assert refused.value.response.status_code == status
            assert b'"code"' in (refused.value.response.body or b"")

    run(test())


def test_the_key_may_come_in_the_url_of_this_route() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            await gateway.control()
            path = f"/api/kernels/{KERNEL}/channels?token=ck_alice"
            client = await gateway.open(path, "", headers={"Authorization": ""})
            assert client.subprotocol is None

    run(test())


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_pages_of_other_origins_are_refused(headers: dict[str, str], is_allowed: bool) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            if is_allowed:
                await gateway.client(SUBPROTOCOL, headers=headers)
                return
            with pytest.raises(InvalidStatus, match="403"):
                await gateway.client(SUBPROTOCOL, headers=headers)

    run(test())


def test_a_peer_that_says_nothing_is_given_up_and_one_that_answers_pings_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ChannelSocket, "ping_every_s", 0.1)
    monkeypatch.setattr(ChannelSocket, "give_up_after_s", 0.4)

    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            client.transport.pause_reading()  # half-open: no pong comes back
            assert await close_code(host) == 1001
            assert gateway.hub.is_connected(KERNEL), "the control connection answers its pings"
            client.transport.abort()

    run(test())


def test_a_held_peer_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostDataHandler, "ping_every_s", 0.1)
    monkeypatch.setattr(HostDataHandler, "give_up_after_s", 0.3)

    async def test() -> None:
        async with bare_gateway() as gateway, joined(gateway) as (client, host):
            client.transport.pause_reading()

            async def produce() -> None:
                for _ in range(40):
                    await host.send(bytes(MIB))

            producing = asyncio.create_task(produce())
            clock = asyncio.get_running_loop().time
            over = clock() + 3 * HostDataHandler.give_up_after_s
            await wait_until_async(lambda: clock() > over, 5, what="the limit passed three times")
            client.transport.resume_reading()
            for _ in range(40):
                assert len(await client.recv()) == MIB
            await producing

    run(test())
