"""``kill -9`` of each process in turn: who survives, what the front end hears, and who is gone.

Every test ends with ``clouditia gateway stop --drain`` while its kernel is still there, and that
has to leave no process of the state directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.bridge_fakes import connected_client, running_bridge
from tests.integration.front_end import WAIT_S, FrontEnd, connected, started

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import find_process, kill_9
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults

#: The promises of docs/architecture.md: how soon a pending request is answered with the cause.
KERNEL_CAUSE_S, HOST_CAUSE_S = 3.0, 5.0
EXIT_S = 10.0

#: Starts a child in a session of its own, says who is who, and goes on for ever.
BUSY_WITH_A_CHILD = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(child.pid, os.getpid(), flush=True)
while True:
    time.sleep(1)
"""
#: A front end process of its own: starts a kernel, says where, waits to be killed.
OWNER = """
import sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name=sys.argv[1])
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(60)
print(manager.provisioner.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def rest(target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(target.name))


@pytest.fixture
def manager(target: LoggedInTarget) -> Iterator[Any]:
    with started(target.kernel_name()) as manager:
        yield manager


@pytest.fixture
def front_end(manager: Any) -> Iterator[FrontEnd]:
    with connected(manager) as front_end:
        yield front_end


def host_file(gateway: GatewayProcess) -> dict[str, Any]:
    """What the only kernel host says about itself and its kernel."""
    (path,) = (gateway.state_dir / "k").glob("*/host.json")
    fields: dict[str, Any] = json.loads(path.read_text())
    return fields


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_gone(*pids: int) -> None:
    wait_until(lambda: all(map(is_gone, pids)), EXIT_S, what=f"{pids} are gone")


def only_kernel(rest: GatewayClient) -> dict[str, Any]:
    (kernel,) = rest.list_kernels()
    return kernel


def test_a_killed_bridge_costs_neither_kernel_nor_output(
    gateway: GatewayProcess, rest: GatewayClient, manager: Any, tmp_path: Path
) -> None:
    gate, passed = tmp_path / "gate", tmp_path / "passed"
    code = (
        "import pathlib, time\n"
        "print('before', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        f"print('meanwhile', flush=True); pathlib.Path({str(passed)!r}).touch()\n"
        f"while pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        "print('after')"
    )
    with connected(manager) as front_end:
        msg_id = front_end.execute(code)
        front_end.printed(msg_id, "before")
        kernel = only_kernel(rest)
        kill_9(manager.provisioner.pid)
    gate.touch()
    wait_until(passed.exists, WAIT_S, what="output without a front end")
    assert only_kernel(rest)["id"] == kernel["id"]

    arguments = ("--kernel-id", kernel["id"])
    with (
        running_bridge(tmp_path, *arguments, target="lab") as bridge,
        connected_client(bridge, is_ready=False) as client,
    ):
        attached = FrontEnd(client)
        attached.printed(msg_id, "before")
        attached.printed(msg_id, "meanwhile")
        gate.unlink()
        attached.printed(msg_id, "after")
        assert only_kernel(rest)["clouditia"]["epoch"] == 1
        gateway.close()
        assert bridge.exit_code() == 0


def test_the_bridge_of_a_killed_front_end_leaves_and_its_kernel_stays(
    gateway: GatewayProcess, rest: GatewayClient, target: LoggedInTarget
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, target.kernel_name()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        bridge = int(owner.stdout.readline())
        kernel_pid = host_file(gateway)["kernel_pid"]
        owner.kill()
    wait_gone(bridge)
    assert not is_gone(kernel_pid)
    assert only_kernel(rest)["clouditia"]["epoch"] == 1
    gateway.close()
    assert is_gone(kernel_pid)


def test_a_killed_gateway_finds_its_kernels_again(
    gateway: GatewayProcess, rest: GatewayClient, front_end: FrontEnd
) -> None:
    front_end.run("kept = 42")
    kernel, host = only_kernel(rest), host_file(gateway)
    gateway.kill()
    assert not is_gone(host["pid"])
    assert not is_gone(host["kernel_pid"])
    gateway.start()
    assert front_end.run("print(kept)").text() == "42\n"
    # The cell's link may not have needed the gateway at all; its host dials in by itself.
    wait_until(lambda: only_kernel(rest)["clouditia"]["reachable"], WAIT_S, what="host back")
    found = only_kernel(rest)
    assert found["id"] == kernel["id"]
    assert found["clouditia"]["epoch"] == 1
    assert host_file(gateway) == host
    gateway.close()


def busy(front_end: FrontEnd) -> tuple[str, list[int]]:
    """Run :data:`BUSY_WITH_A_CHILD`; returns the request and the pids of child and kernel."""
    msg_id = front_end.execute(BUSY_WITH_A_CHILD)
    printed = front_end.printed(msg_id, "\n").content["text"]
    return msg_id, [int(word) for word in printed.split()]


def cause_of(front_end: FrontEnd, msg_id: str, *, within_s: float, since: float) -> str:
    """Wait for the reply to a request that cannot go on; returns what it says."""
    content = front_end.result(msg_id).reply.content
    took = time.monotonic() - since
    assert took < within_s, f"the cause came after {took:.1f} s"
    assert content["status"] == "error"
    assert content["ename"] == "KernelDied"
    return str(content["evalue"])


def kill_and_hear(
    gateway: GatewayProcess, manager: Any, who: str, *, within_s: float
) -> tuple[str, list[int]]:
    """Kill a process under a busy kernel; returns the cause that was told, and who must be gone."""
    with connected(manager) as front_end:
        msg_id, pids = busy(front_end)
        host = host_file(gateway)
        keeper = find_process(gateway.state_dir, "clouditia-kernelkeeper").pid
        assert pids[1] == host["kernel_pid"]
        since = time.monotonic()
        kill_9({"host": host["pid"], "keeper": keeper, "kernel": host["kernel_pid"]}[who])
        if who != "kernel":  # which the keeper outlives, to start the next one
            pids.append(keeper)
        return cause_of(front_end, msg_id, within_s=within_s, since=since), pids


def restart(manager: Any) -> None:
    """What a front end's restarter does once the bridge has left."""
    wait_until(lambda: not manager.is_alive(), EXIT_S, what="the bridge has left")
    manager.restart_kernel(now=True)
    with connected(manager) as front_end:
        assert front_end.run("print('child' in globals())").text() == "False\n"


@pytest.mark.parametrize(
    ("who", "within_s", "words"),
    [
        ("host", HOST_CAUSE_S, "kernel host died"),
        ("keeper", KERNEL_CAUSE_S, ""),
        ("kernel", KERNEL_CAUSE_S, "SIGKILL"),
    ],
)
def test_what_is_killed_below_a_kernel_takes_all_of_it_along_and_a_restart_works(
    gateway: GatewayProcess,
    rest: GatewayClient,
    manager: Any,
    who: str,
    within_s: float,
    words: str,
) -> None:
    before = only_kernel(rest)
    cause, pids = kill_and_hear(gateway, manager, who, within_s=within_s)
    assert words in cause
    wait_gone(*pids)
    restart(manager)
    after = only_kernel(rest)
    assert after["id"] == before["id"]
    assert after["clouditia"]["epoch"] == 2
    gateway.close()
