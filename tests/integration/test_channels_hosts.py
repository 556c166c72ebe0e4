"""Kernel hosts dial in: who is let in, and what the hub makes of them."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.integration.channels_harness import (
    KERNEL,
    WELCOME,
    bare_gateway,
    close_code,
    host_hello,
    next_json,
    run,
    wait_until_async,
)

from clouditia.errors import GatewayUnreachable, KernelDied, LaunchTimeout
from clouditia.errors import TimeoutError as ClouditiaTimeout


def test_a_host_with_its_token_is_welcomed_and_its_states_reach_the_registry() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.control()
            assert await next_json(control) == WELCOME
            busy = {"type": "state", "state": {"epoch": 1, "execution_state": "busy"}}
            await control.send(json.dumps(busy))
            await wait_until_async(lambda: len(gateway.registry.told) == 2, 5)
            assert gateway.registry.told == [("connected", "idle"), ("state", "busy")]
            state = gateway.hub.state(KERNEL)
            assert state is not None
            assert state.execution_state == "busy"
            await control.close()
            await wait_until_async(lambda: not gateway.hub.is_connected(KERNEL), 5)
            assert gateway.registry.told[-1] == ("lost", KERNEL)

    run(test())


@pytest.mark.parametrize("token", ["wrong", "", "token-of-fence-1 x", "ck_alice"])
def test_a_wrong_host_token_is_closed_with_4401(token: str) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.control(token=token)
            assert await close_code(control) == 4401
            assert not gateway.hub.is_connected(KERNEL)

    run(test())


def test_the_host_of_an_older_launch_is_closed_with_4409() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            gateway.registry.fence = 2
            assert await close_code(await gateway.control(fence=1)) == 4409

    run(test())


def test_an_unknown_kernel_is_closed_with_4404() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.open("/clouditia/host/v1/nobody/control", "token-of-fence-1")
            assert await close_code(control) == 4404

    run(test())


def test_a_newer_host_takes_over_and_the_older_one_is_closed_with_4409() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            older = await gateway.control(fence=1)
            assert await next_json(older) == WELCOME
            gateway.registry.fence = 2
            newer = await gateway.control(fence=2)
            assert await next_json(newer) == WELCOME
            assert await close_code(older) == 4409
            await wait_until_async(lambda: len(gateway.registry.told) == 2, 5)
            assert gateway.hub.is_connected(KERNEL)
            assert ("lost", KERNEL) not in gateway.registry.told

    run(test())


def test_a_host_of_another_protocol_version_is_told_so_with_4426() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            path = f"/clouditia/host/v1/{KERNEL}/control"
            control = await gateway.open(path, "token-of-fence-1")
            await control.send(json.dumps({**host_hello(), "protocol": [7, 9]}))
            assert await close_code(control) == 4426
            assert "7 to 9" in (control.close_reason or "")

    run(test())


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[1]",
        '{"type":"state"}',
        json.dumps({**host_hello(), "kernel_id": "other"}),
        "[" * 100_000,
        b"binary",
    ],
)
def test_a_malformed_hello_closes_only_its_own_connection(message: str | bytes) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            good = await gateway.control()
            assert await next_json(good) == WELCOME
            bad = await gateway.open(f"/clouditia/host/v1/{KERNEL}/control", "token-of-fence-1")
            await bad.send(message)
            assert await close_code(bad) == 1008
            assert gateway.hub.is_connected(KERNEL)

    run(test())


def test_a_page_in_a_browser_cannot_pose_as_a_host() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            with pytest.raises(Exception, match="403"):
                await gateway.open(
                    f"/clouditia/host/v1/{KERNEL}/control",
                    "token-of-fence-1",
                    headers={"Origin": "https://evil.example"},
                )

    run(test())


def test_a_request_gets_the_hosts_result_or_its_error() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.control()
            await next_json(control)

            async def answer(fields: dict[str, object]) -> None:
                asked = await next_json(control)
                assert (asked["type"], asked["method"]) == ("request", "restart")
                await control.send(json.dumps({"type": "reply", "id": asked["id"], **fields}))

            asking = asyncio.create_task(gateway.hub.request(KERNEL, "restart", timeout_s=5))
            await answer({"ok": True, "result": {"epoch": 2}})
            assert await asking == {"epoch": 2}

            asking = asyncio.create_task(gateway.hub.request(KERNEL, "restart", timeout_s=5))
            await answer({"ok": False, "error": KernelDied("it is dead").to_wire()})
            with pytest.raises(KernelDied, match="it is dead"):
                await asking

    run(test())


def test_a_request_ends_with_a_clear_error_when_the_host_is_away_silent_or_lost() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            with pytest.raises(GatewayUnreachable, match="is not connected"):
                await gateway.hub.request(KERNEL, "interrupt", timeout_s=5)
            control = await gateway.control()
            await next_json(control)
            with pytest.raises(ClouditiaTimeout, match="interrupt"):
                await gateway.hub.request(KERNEL, "interrupt", timeout_s=0.05)
            asking = asyncio.create_task(gateway.hub.request(KERNEL, "interrupt", timeout_s=5))
            await next_json(control)
            await control.close()
            with pytest.raises(GatewayUnreachable, match="was lost"):
                await asking

    run(test())


def test_waiting_for_a_host_ends_when_it_dials_in_or_at_the_limit() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            with pytest.raises(LaunchTimeout, match=KERNEL):
                await gateway.hub.wait_connected(KERNEL, 0.05)
            waiting = asyncio.create_task(gateway.hub.wait_connected(KERNEL, 5))
            await gateway.control()
            await waiting
            await gateway.hub.wait_connected(KERNEL, 0)

    run(test())


def test_a_data_connection_that_nobody_asked_for_is_closed() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            await gateway.control()
            assert await close_code(await gateway.data("0" * 32)) == 1008

    run(test())


def test_a_host_that_does_not_dial_in_time_is_an_error_and_its_late_dial_is_refused() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway:
            control = await gateway.control()
            await next_json(control)
            with pytest.raises(LaunchTimeout, match="data connection"):
                await gateway.hub.open_data(KERNEL, {"user": "alice", "name": "t"}, 0.05)
            late = await next_json(control)
            assert late["client"] == {"user": "alice", "name": "t"}
            assert await close_code(await gateway.data(late["connection_id"])) == 1008

    run(test())
