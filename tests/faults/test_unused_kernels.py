"""Limits on the life of kernels that nobody uses, on real gateways with limits of a few seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.front_end import connected, started

from clouditia.errors import ConfigError, KernelNotFound
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import kill_9, processes_under
from clouditia.testing.targets import log_in
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults

TTL_S = 2.0
WAIT_S = 60.0


@pytest.fixture(scope="module")
def limited(module_home: IsolatedHome) -> Iterator[GatewayProcess]:
    """A gateway that ends what was idle for an hour, and allows a day without a client."""
    options = ("--cull-idle-timeout", "3600", "--max-detached-ttl", "86400")
    with GatewayProcess(module_home, options=options) as running:
        log_in(running)
        yield running


@pytest.fixture
def rest(limited: GatewayProcess) -> GatewayClient:
    return GatewayClient(load_target("lab"))


def start_kernel(rest: GatewayClient, ttl_s: float = TTL_S) -> str:
    env = {"KERNEL_DETACHED_TTL": f"{ttl_s:g}"}
    return str(rest.start_kernel("python3", env=env, path="")["id"])


def is_there(rest: GatewayClient, kernel_id: str) -> bool:
    return kernel_id in [kernel["id"] for kernel in rest.list_kernels()]


def run_cli(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clouditia.cli", *arguments],
        env=gateway.home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_limits_are_said_at_the_start_at_the_login_and_in_the_list(
    limited: GatewayProcess, rest: GatewayClient
) -> None:
    what = "have had no work and no client for 60 min (cull_idle_timeout)"
    assert f"this gateway ends kernels that {what}" in limited.output
    assert limited.output.splitlines()[-1].startswith("ready ")
    kernel_id = start_kernel(rest, ttl_s=7200)
    wait_until(lambda: rest.get_kernel(kernel_id)["clouditia"]["limits"], WAIT_S)
    limits = rest.get_kernel(kernel_id)["clouditia"]["limits"]
    assert limits == {"cull_idle_timeout": 3600.0, "detached_ttl": 7200.0}
    listed = run_cli(limited, "kernels", "list").stdout
    assert "ENDS" in listed
    assert "after 60 min unused" in listed
    again = limited.home.directory / "again.key"
    again.write_text(limited.create_key("bea"))
    again.chmod(0o600)
    told = run_cli(limited, "login", limited.url, "--name", "other", "--key-file", str(again))
    assert f"this gateway ends kernels that {what}" in told.stderr.replace("\n", " ")
    rest.shutdown(kernel_id)


def test_more_than_the_gateway_allows_is_refused(rest: GatewayClient) -> None:
    with pytest.raises(ConfigError, match="at most 86400 s"):
        start_kernel(rest, ttl_s=86401)


@pytest.mark.parametrize("row", ["G39"])
def test_row(
    row: str, limited: GatewayProcess, rest: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel whose client is gone for ever works on, then is ended, and the cause is told."""
    monkeypatch.setenv("KERNEL_DETACHED_TTL", f"{TTL_S:g}")
    gate = limited.home.directory / "gate"
    with started("clouditia-lab-python3") as manager, connected(manager) as front_end:
        (model,) = rest.list_kernels()
        kernel_id = model["id"]
        msg_id = front_end.execute(
            "import pathlib, time\nprint('on', flush=True)\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
        )
        front_end.printed(msg_id, "on")
        kill_9(manager.provisioner.pid)
        wait_until(lambda: rest.get_kernel(kernel_id)["connections"] == 0, WAIT_S)
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() - began > 1.5 * TTL_S, WAIT_S, what="more than the limit"
        )
        model = rest.get_kernel(kernel_id)
        assert (model["execution_state"], model["clouditia"]["ends_at"]) == ("busy", None)

        gate.touch()
        done = time.monotonic()
        ends_at = wait_until(lambda: rest.get_kernel(kernel_id)["clouditia"]["ends_at"], WAIT_S)
        assert ends_at.endswith("Z")
        wait_until(lambda: not is_there(rest, kernel_id), WAIT_S, what="the kernel is ended")
        assert time.monotonic() - done > TTL_S - 1
        with pytest.raises(
            KernelNotFound, match=r"was ended at .* the limit is 2 s .its detached_ttl"
        ):
            rest.get_kernel(kernel_id)
        for command in (("kernels", "list"), ("attach", kernel_id)):
            told = run_cli(limited, *command).stderr
            assert kernel_id in told
            assert "the limit is 2 s" in told
        wait_until(
            lambda: len(processes_under(limited.state_dir)) == 1, WAIT_S, what="only the gateway"
        )
        assert not list((limited.state_dir / "k").iterdir())


@pytest.mark.slow
def test_a_gateway_that_was_down_shortens_nobodys_time(module_home: IsolatedHome) -> None:
    directory = module_home.directory / "weak"
    with GatewayProcess(module_home, state_dir=directory) as weak:
        log_in(weak, name="weak")
        rest = GatewayClient(load_target("weak"))
        kernel_id = start_kernel(rest)
        wait_until(lambda: rest.get_kernel(kernel_id)["execution_state"] == "idle", WAIT_S)
        weak.kill()
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2 * TTL_S, WAIT_S, what="twice the limit")
        weak.start()
        wait_until(lambda: rest.get_kernel(kernel_id)["clouditia"]["reachable"], WAIT_S)
        back = time.monotonic()
        assert rest.get_kernel(kernel_id)["execution_state"] == "idle"
        wait_until(lambda: not is_there(rest, kernel_id), WAIT_S, what="the kernel is ended")
        assert time.monotonic() - back > TTL_S - 2


@pytest.mark.slow
def test_a_front_end_whose_user_does_nothing_is_told_before_its_kernel_is_culled(
    module_home: IsolatedHome, limited: GatewayProcess
) -> None:
    options = ("--cull-idle-timeout", "4", "--cull-connected")
    strict = GatewayProcess(
        module_home, state_dir=module_home.directory / "strict", options=options
    )
    with strict:
        target: Any = log_in(strict, name="strict")
        rest = GatewayClient(load_target("strict"))
        with started(target.kernel_name()) as manager, connected(manager) as front_end:
            cell = front_end.execute("1")
            front_end.result(cell)
            warning = front_end.printed(cell, "will be ended in 1 s").content["text"]
            assert "To keep it, run a cell" in warning
            wait_until(lambda: not rest.list_kernels(), WAIT_S, what="the kernel is culled")
            wait_until(lambda: not manager.is_alive(), WAIT_S, what="the front end knows")
