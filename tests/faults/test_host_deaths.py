"""``kill -9`` of a kernel's host: everybody hears it, and what the kernel said stays readable."""

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
from tests.integration.stock_front_end import joined_stock_front_end, stock_front_end

from clouditia.errors import KernelDied
from clouditia.rest import GatewayClient
from clouditia.settings import Target, load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults

#: The promise of docs/architecture.md for the death of a kernel's host.
CAUSE_S = 5.0
EXIT_S = 10.0
CAUSE = "kernel host died"


@pytest.fixture
def lab(module_target: LoggedInTarget) -> Target:
    return load_target(module_target.name)


@pytest.fixture
def rest(lab: Target) -> Iterator[GatewayClient]:
    client = GatewayClient(lab)
    yield client
    for kernel in client.list_kernels():
        client.shutdown(kernel["id"])


def directory_of(gateway: GatewayProcess, kernel_id: str) -> Path:
    for path in (gateway.state_dir / "k").glob("*/launch.json"):
        if json.loads(path.read_text())["kernel_id"] == kernel_id:
            return path.parent
    raise AssertionError(f"no directory of {kernel_id}")


def kill_host(directory: Path) -> tuple[float, list[psutil.Process]]:
    """When it was killed, and what must be gone: the host and all below it."""
    host = psutil.Process(json.loads((directory / "host.json").read_text())["pid"])
    family = [host, *host.children(recursive=True)]
    since = time.monotonic()
    host.kill()
    return since, family


def are_gone(processes: list[psutil.Process]) -> bool:
    """Zombies count: nobody is left behind, not even a name in the process table."""
    return not any(process.is_running() for process in processes)


def test_a_joined_stock_front_end_hears_the_cause_and_so_does_the_list(
    module_gateway: GatewayProcess, lab: Target, rest: GatewayClient
) -> None:
    with stock_front_end(lab) as front_end:
        front_end.run("kept = 1")
        asked = [front_end.execute("print('on', flush=True)\nimport time; time.sleep(600)")]
        front_end.printed(asked[0], "on")
        asked.append(front_end.execute("1"))
        asked.append(front_end.send("complete_request", {"code": "pr", "cursor_pos": 2}))
        directory = directory_of(module_gateway, front_end.kernel_id)
        since, family = kill_host(directory)
        for msg_id in asked:
            content = front_end.result(msg_id).reply.content
            assert (content["ename"], content["reason"]) == ("KernelDied", "host")
            assert CAUSE in content["evalue"]
        front_end.wait(
            lambda each: each.msg_type == "status" and each.content["execution_state"] == "dead",
            "the status dead",
        )
        assert time.monotonic() - since < CAUSE_S
        model = rest.get_kernel(front_end.kernel_id)
        assert (model["execution_state"], model["clouditia"]["exit"]["cause"]) == ("dead", "host")
        wait_until(lambda: are_gone(family), EXIT_S, what="host, keeper and kernel are gone")
        # A restart is the front end's own decision, and works.
        rest.restart(front_end.kernel_id)
        assert front_end.run("print('kept' in globals())").text().endswith("False\n")


def test_without_a_client_the_list_says_dead_and_who_comes_later_gets_what_was_missed(
    module_gateway: GatewayProcess, lab: Target, rest: GatewayClient
) -> None:
    with stock_front_end(lab) as front_end:
        kernel_id = front_end.kernel_id
        gate = module_gateway.home.directory / f"gate-{kernel_id}"
        written = gate.with_suffix(".written")
        msg_id = front_end.execute(
            "import pathlib, time\nprint('seen', flush=True)\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
            "print('missed', flush=True); print('and this', flush=True)\n"
            f"pathlib.Path({str(written)!r}).touch(); time.sleep(600)"
        )
        front_end.printed(msg_id, "seen")
        front_end.sockets.close()
        wait_until(lambda: rest.get_kernel(kernel_id)["connections"] == 0, 60, what="no client")
        gate.touch()
        wait_until(written.exists, 60, what="the output that nobody sees")
        wait_until(lambda: _has(directory_of(module_gateway, kernel_id), b"and this"), 60)
        since, family = kill_host(directory_of(module_gateway, kernel_id))

        def is_known() -> bool:
            model = rest.get_kernel(kernel_id)
            return bool(
                model["execution_state"] == "dead" and CAUSE in model["clouditia"]["reason"]
            )

        wait_until(is_known, CAUSE_S - (time.monotonic() - since), what="the list says dead")
        wait_until(lambda: are_gone(family), EXIT_S, what="host, keeper and kernel are gone")
        # Twice, because whoever serves the journal now may be killed as well.
        _attach_shows_all(module_gateway, kernel_id)
        for _ in range(2):
            _late_client_sees_all(lab, kernel_id, msg_id)
            kill_host(directory_of(module_gateway, kernel_id))
    assert rest.list_kernels() == []
    directories = list((module_gateway.state_dir / "k").iterdir())
    assert directories == []
    wait_until(
        lambda: (
            [each.pid for each in processes_under(module_gateway.state_dir)] == [module_gateway.pid]
        ),
        EXIT_S,
        what="only the gateway is left",
    )


def _has(directory: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in (directory / "journal").glob("*.journal"))


def _attach_shows_all(gateway: GatewayProcess, kernel_id: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clouditia.cli", "attach", kernel_id],
        env=gateway.home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == KernelDied.exit_code
    assert "seen\nmissed\nand this\n" in done.stdout
    assert CAUSE in done.stderr


def _late_client_sees_all(lab: Target, kernel_id: str, msg_id: str) -> None:
    with joined_stock_front_end(lab, kernel_id) as late:
        late.printed(msg_id, "seen")
        late.printed(msg_id, "missed")
        error: dict[str, Any] = late.wait(
            lambda each: each.parent == msg_id and each.msg_type == "error", "the cause"
        ).content
        assert CAUSE in error["evalue"]
