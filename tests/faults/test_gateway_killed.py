"""A cell that prints while its gateway is killed and its connection cut, three times or twenty.

A line every 10 ms, so that there is always one on its way. What the front end has seen decides when
the next blow comes; each comes only after the output has found its way again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.contract.http import Client
from tests.integration.front_end import WAIT_S, FrontEnd, connected, started
from tests.integration.stock_front_end import stock_front_end

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, ChaosProxy, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import log_in
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults

LINES, EVERY_S = 2000, 0.01
#: After which line which blow falls.
BLOWS = {200: "kill", 500: "cut", 800: "kill", 1100: "cut", 1400: "kill"}


@pytest.fixture
def proxy(gateway: GatewayProcess) -> Iterator[ChaosProxy]:
    """Between the clients and the gateway, which keeps its port over its lives."""
    port = int(gateway.url.rsplit(":", 1)[1].rstrip("/"))
    with ChaosProxy("127.0.0.1", port) as proxy:
        log_in(gateway, url=f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.mark.parametrize("row", ["G20"])
def test_row(row: str, gateway: GatewayProcess, proxy: ChaosProxy) -> None:
    """A bridge shows every line once and in order."""
    rest = GatewayClient(load_target("lab"))
    with started("clouditia-lab-python3") as manager, connected(manager) as front_end:
        (before,) = rest.list_kernels()
        oracle = print_under_blows(front_end, gateway, proxy)
        assert oracle.verdict() == HEALTHY
        assert front_end.run("print(kept)").text() == "still here\n"
        (after,) = rest.list_kernels()
        assert after["id"] == before["id"]
        assert after["clouditia"]["epoch"] == before["clouditia"]["epoch"] == 1


def test_a_stock_websocket_client_that_comes_back_misses_nothing(
    gateway: GatewayProcess, proxy: ChaosProxy
) -> None:
    target = load_target("lab")
    with stock_front_end(target) as front_end:
        oracle = print_under_blows(front_end, gateway, proxy)
        assert front_end.connects > 3  # two blows may fall on one connection
        assert oracle.lost == 0
        assert oracle.is_done
        assert front_end.run("print(kept)").text() == "still here\n"
        (kernel,) = GatewayClient(target).list_kernels()
        assert kernel["clouditia"]["epoch"] == 1


def print_under_blows(
    front_end: FrontEnd, gateway: GatewayProcess, proxy: ChaosProxy
) -> LineOracle:
    """Run the cell to its end, and deal all blows."""
    strike: dict[str, Callable[[], object]] = {
        "cut": proxy.cut_once,
        "kill": lambda: gateway.restart(kill=True),
    }
    front_end.run("kept = 'still here'")
    front_end.seen.clear()
    msg_id = front_end.execute(LineOracle.code(LINES, every_s=EVERY_S))
    for line, blow in BLOWS.items():
        front_end.printed(msg_id, f"#{line}")
        url = gateway.url
        strike[blow]()
        assert gateway.url == url
    front_end.printed(msg_id, f"#{LINES - 1}")
    front_end.result(msg_id)
    oracle = LineOracle(LINES)
    for each in front_end.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    return oracle


def test_output_goes_on_while_the_gateway_is_gone(gateway: GatewayProcess) -> None:
    log_in(gateway)
    with started("clouditia-lab-python3") as manager, connected(manager) as front_end:
        msg_id = front_end.execute(LineOracle.code(100, every_s=EVERY_S))
        front_end.printed(msg_id, "#10")
        gateway.kill()
        front_end.printed(msg_id, "#99")
        front_end.result(msg_id)
        assert not gateway.is_running
        gateway.start()
        assert front_end.run("print('back')").text() == "back\n"


def test_a_kernel_that_is_started_and_shut_down_while_the_gateway_restarts(
    gateway: GatewayProcess,
) -> None:
    target = load_target(log_in(gateway).name)
    gateway.kill()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        back = pool.submit(gateway.start)
        with started("clouditia-lab-python3") as manager, connected(manager) as front_end:
            back.result()
            assert front_end.run("print('there')").text() == "there\n"
            gateway.kill()
            back = pool.submit(gateway.start)
        back.result()
    rest = GatewayClient(target)
    wait_until(lambda: not rest.list_kernels(), WAIT_S, what="the kernel has ended")


def test_three_kills_at_random_moments_change_nothing(gateway: GatewayProcess) -> None:
    kill_at_random_moments(gateway, kills=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_at_random_moments_change_nothing(gateway: GatewayProcess) -> None:
    kill_at_random_moments(gateway, kills=20)


def kill_at_random_moments(gateway: GatewayProcess, kills: int) -> None:
    """Kernels, owners, sessions, keys and a running cell are as before after each kill.

    The moments are numbers of lines of the cell, some of them within the start of the gateway:
    then it is killed before it says that it is ready.
    """
    chance = random.Random()
    users = {name: Client(gateway.url, gateway.create_key(name)) for name in ("ada", "bob")}
    log_in(gateway)
    lines = 400 * kills
    with stock_front_end(load_target("lab")) as front_end:
        front_end.run("kept = 'still here'")
        before = {name: state_of(client, name) for name, client in users.items()}
        msg_id = front_end.execute(LineOracle.code(lines, every_s=0.005))
        at = 0
        for _ in range(kills):
            at += chance.randint(50, 350)
            front_end.printed(msg_id, f"#{at}")
            gateway.kill()
            if chance.random() < 0.3:
                kill_while_it_starts(gateway, chance.uniform(0.0, 0.6))
            gateway.start()
            after = {name: state_of(client, name) for name, client in users.items()}
            assert after == before
        front_end.printed(msg_id, f"#{lines - 1}")
        front_end.result(msg_id)
        oracle = LineOracle(lines)
        for each in front_end.seen:
            if each.parent == msg_id:
                oracle.feed(each.message)
        assert oracle.lost == 0
        assert oracle.is_done
        assert front_end.run("print(kept)").text() == "still here\n"


def kill_while_it_starts(gateway: GatewayProcess, share: float) -> None:
    """Kill the next gateway when a share of its usual start has passed."""
    starting = subprocess.Popen(
        [sys.executable, "-m", "clouditia.cli", "gateway", "start", "--state-dir",
         str(gateway.state_dir)],
        env=gateway.home.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        starting.wait(share)
    starting.kill()
    starting.wait()


def state_of(client: Client, user: str) -> list[Any]:
    """What a user has; made at the first look: a kernel and a session of its own."""
    if not client("GET", "/api/sessions").json:
        session = {
            "path": f"{user}.ipynb", "name": "", "type": "notebook", "kernel": {"name": "python3"}
        }  # fmt: skip
        assert client("POST", "/api/sessions", session).status == 201

    def settled() -> list[Any] | None:
        kernels = client("GET", "/api/kernels").json
        if not all(each["clouditia"]["reachable"] for each in kernels):
            return None
        if any(each["execution_state"] in ("starting", "dead") for each in kernels):
            return None
        parts = [(each["id"], each["clouditia"]) for each in kernels]
        return [(kernel_id, part["owner"], part["epoch"]) for kernel_id, part in parts]

    kernels = wait_until(settled, WAIT_S, what=f"the kernels of {user} are there")
    assert kernels is not None
    sessions = client("GET", "/api/sessions").json
    return [*kernels, *[(each["id"], each["path"], each["kernel"]["id"]) for each in sessions]]
