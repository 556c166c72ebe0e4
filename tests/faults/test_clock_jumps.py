"""The time of day leaps by an hour or a day, ahead and back: nothing ends, and nothing is lost.

With limits on kernels and a key that expires, so that there is something to end wrongly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fake_clock import FakeClock
from tests.integration.host_harness import Client, Scene, run, scene
from tests.integration.local_server import LocalServer
from tests.integration.stock_front_end import stock_front_end

from clouditia.errors import AuthenticationError
from clouditia.protocol.messages import decode_json
from clouditia.rest import GatewayClient
from clouditia.settings import Target, load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.faults

HOUR_S, DAY_S = 3600, 86400
JUMPS = {"+1h": HOUR_S, "-1h": -HOUR_S, "+1d": DAY_S, "-1d": -DAY_S}
#: Up to which line each lasts; the keys of open connections are looked at every 2 s.
UNTIL_LINE = (50, 100, 320, 540)
#: All limits are shorter than the jumps, and longer than the test.
LIMITS = ("--cull-idle-timeout", "1800", "--detached-ttl", "1800")
LINES, EVERY_S = 560, 0.01
WAIT_S = 60.0


@pytest.fixture
def clock(tmp_path: Path) -> FakeClock:
    return FakeClock(tmp_path)


@pytest.fixture
def gateway(clouditia_home: IsolatedHome, clock: FakeClock) -> Iterator[GatewayProcess]:
    environment = clock.environment()
    with GatewayProcess(clouditia_home, options=LIMITS, environment=environment) as running:
        yield running
        clock.jump("+0")


def is_wrong_by(rest: GatewayClient, seconds: float) -> bool:
    """Whether the gateway's own clock says so, by the date of its answers."""
    rest.list_kernels()
    return abs((rest.clock_offset_s or 0.0) - seconds) < HOUR_S / 4


def expiring_key(gateway: GatewayProcess, days: float) -> str:
    arguments = ("--user", "ada", "--expires-days", f"{days}")
    printed = gateway.run("keys", "create", *arguments, "--state-dir", str(gateway.state_dir))
    return next(word for word in printed.split() if word.startswith("ck_"))


def test_a_gateway_whose_clock_jumps_ends_no_kernel_no_connection_and_no_key(
    gateway: GatewayProcess, clock: FakeClock
) -> None:
    log_in(gateway)
    with stock_front_end(load_target("lab")) as front_end:
        rest = GatewayClient(Target("lab", gateway.url), key=expiring_key(gateway, days=0.5))
        unused = rest.start_kernel("python3", env={}, path="")["id"]
        wait_until(lambda: rest.get_kernel(unused)["execution_state"] == "idle", WAIT_S)
        msg_id = front_end.execute(LineOracle.code(LINES, every_s=EVERY_S))
        for line, (offset, seconds) in zip(UNTIL_LINE, JUMPS.items(), strict=True):
            clock.jump(offset)
            wait_until(lambda seconds=seconds: is_wrong_by(rest, seconds), WAIT_S)  # type: ignore[misc]
            front_end.printed(msg_id, f"#{line}")
            assert len(rest.list_kernels()) == 2
            ours = rest.get_kernel(unused)["clouditia"]
            assert (ours["ends_at"], ours["reachable"]) == (None, True)
        clock.jump("+0")
        front_end.result(msg_id)
        oracle = LineOracle(LINES)
        for each in front_end.seen:
            if each.parent == msg_id:
                oracle.feed(each.message)
        assert oracle.verdict() == HEALTHY
        assert front_end.connects == 1
        rest.shutdown(unused)


@pytest.mark.slow
def test_a_key_that_expires_does_so_in_its_own_time(
    gateway: GatewayProcess, clock: FakeClock
) -> None:
    key = expiring_key(gateway, days=2.5 / DAY_S)
    rest = GatewayClient(Target("lab", gateway.url), key=key)
    clock.jump("-1d")

    def has_expired() -> bool:
        try:
            rest.list_kernels()
        except AuthenticationError as exc:
            return "expired" in exc.message
        return False

    wait_until(has_expired, WAIT_S, what="the key has expired although the clock was set back")


def test_a_host_whose_clock_jumps_keeps_kernel_and_journal(
    clock: FakeClock, tmp_path: Path
) -> None:
    async def check() -> None:
        async with scene(tmp_path, start=False, detached_ttl_s=1800.0) as made:
            made.gateway.limits = {"cull_idle_timeout_s": 1800.0}
            made.host.host_env = clock.environment()
            made.host.start()
            client = await made.client(start=1)
            msg_id = client.execute(LineOracle.code(100, every_s=EVERY_S))
            for number, (offset, seconds) in enumerate(JUMPS.items()):
                clock.jump(offset)
                await _host_is_wrong_by(client, seconds)
                text = f"#{20 * (number + 1)}"
                await wait_until_async(lambda text=text: text in client.text(msg_id), 60)  # type: ignore[misc]
            await client.done(msg_id)
            assert client.text(msg_id).count("\n") == 100
            assert made.gateway.state["execution_state"] == "idle"
            assert made.gateway.state["ends_at"] is None
            last = datetime.fromisoformat(made.gateway.state["last_activity"])
            assert abs(datetime.now(UTC) - last) < timedelta(minutes=10)
            await _another_host_in_the_wrong_week_keeps_the_output(made, clock, msg_id)

    run(check)


async def _host_is_wrong_by(client: Client, seconds: float) -> None:
    """By the date of a message that the host itself has written now."""
    count = len(client.of("command_reply"))
    client.command("find")
    await wait_until_async(lambda: len(client.of("command_reply")) > count, WAIT_S)
    headers = [decode_json(message.header) for message in client.messages]
    date = [header["date"] for header in headers if header["msg_type"] == "command_reply"][-1]
    wrong_by = datetime.fromisoformat(date) - datetime.now(UTC)
    assert abs(wrong_by.total_seconds() - seconds) < HOUR_S / 4


async def _another_host_in_the_wrong_week_keeps_the_output(
    made: Scene, clock: FakeClock, msg_id: str
) -> None:
    """Its first look at what is too old comes at once."""
    await asyncio.to_thread(made.host.kill)
    clock.jump("+8d")
    made.host.start(fence=2)
    await wait_until_async(lambda: len(made.gateway.hellos) == 2, WAIT_S)
    began = time.monotonic()
    await wait_until_async(lambda: time.monotonic() - began > 1.0, WAIT_S, what="several looks")
    late = await made.client("late", start=1)
    await late.done(msg_id)
    assert late.gaps == []
    assert late.text(msg_id).count("\n") == 100


@pytest.mark.slow
def test_the_culler_of_a_local_server_whose_clock_jumps_lets_go_of_the_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, clock: FakeClock
) -> None:
    """A stock server goes by the time of day; the kernel on the gateway stays all the same."""
    rest = GatewayClient(load_target(module_target.name))
    options = (
        "--MappingKernelManager.cull_idle_timeout=1800",
        "--MappingKernelManager.cull_interval=1",
    )
    with LocalServer(module_home, *options, environment=clock.environment()) as server:
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as notebook:
            notebook.run("1")
        (kernel,) = rest.list_kernels()
        clock.jump("+1h")
        wait_until(lambda: rest.get_kernel(kernel["id"])["connections"] == 0, WAIT_S)
        assert [found["id"] for found in rest.list_kernels()] == [kernel["id"]]
    rest.shutdown(kernel["id"])
