"""Starts, ends and refusals of the bridge process: what ends a kernel and what lets go of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.connect import write_connection_file
from tests.integration.bridge_fakes import (
    FakeGateway,
    RunningBridge,
    ScriptedKernel,
    bridge_command,
    collect,
    connected_client,
    reply_to,
    running_bridge,
    text_of,
    write_target,
)

from clouditia.testing.waiting import wait_until


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    monkeypatch.setenv("CLOUDITIA_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("JPY_PARENT_PID", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    gateway = FakeGateway()
    write_target(gateway.url)
    yield gateway
    gateway.close()


def wait_running(bridge: RunningBridge) -> None:
    wait_until(lambda: bridge.state.get("state") == "running", 15, what="a running bridge")


# --- start --------------------------------------------------------------------------------------


def test_the_kernel_gets_its_variables_and_path_but_nothing_of_clouditia(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    variables = {
        "KERNEL_GPUS": "1",
        "JPY_SESSION_NAME": "work/a.ipynb",
        "CLOUDITIA_API_KEY": "ck_x",
    }
    with running_bridge(tmp_path, **variables) as bridge:
        wait_running(bridge)
    (post,) = gateway.posts
    assert post["env"] == {"KERNEL_GPUS": "1"}
    assert post["path"] == "work/a.ipynb"
    assert post["name"] == "python3"


def test_the_state_file_names_kernel_process_and_epoch_and_is_private(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge:
        wait_running(bridge)
        assert bridge.state["kernel_id"] == gateway.kernel.kernel_id
        assert bridge.state["pid"] == bridge.process.pid
        assert bridge.state["epoch"] == 1
        mode = Path(f"{bridge.connection_file}.clouditia").stat().st_mode
        assert mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--target", "nowhere"], 2, "there is no target 'nowhere'"),
        (["--target", "wrong-key"], 3, "not known"),
        (["--target", "gone"], 6, "refused"),
        (["--kernel", "missing"], 2, "no kernelspec 'missing'"),
        (["--kernel-id", "missing"], 5, "no kernel missing"),
    ],
)
def test_a_start_that_cannot_work_is_refused_in_one_line(
    gateway: FakeGateway, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_target(_unused_url(), name="gone")
    write_target(gateway.url, name="wrong-key", key="ck_other_0123456789")
    with running_bridge(tmp_path, *arguments) as bridge:
        assert bridge.exit_code() == code
        (line,) = bridge.stderr().splitlines()
        assert line.startswith("clouditia-kernel: ")
        assert words in line


def _unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_unreadable_connection_file_is_refused_before_a_kernel_starts(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "kernel-test.json").write_text("{}")
    with running_bridge(tmp_path) as bridge:
        assert bridge.exit_code() == 2
        assert "shell_port" in bridge.stderr()
    assert gateway.posts == []


def test_a_port_in_use_is_refused_and_the_kernel_is_ended_again(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = tmp_path / "kernel-test.json"
        write_connection_file(str(path), ip="127.0.0.1", key=b"secret", iopub_port=port)
        with running_bridge(tmp_path) as bridge:
            assert bridge.exit_code() == 2
            assert f"127.0.0.1:{port}" in bridge.stderr()
    assert gateway.deletes == [gateway.kernel.kernel_id]


# --- attach -------------------------------------------------------------------------------------


def test_attaching_to_a_busy_kernel_starts_none_and_hears_the_running_cell(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    kernel = gateway.kernels["old"] = ScriptedKernel("old")
    kernel.state = "busy"
    kernel.holds_info = True
    attaching = running_bridge(tmp_path, "--kernel-id", "old")
    with attaching as bridge, connected_client(bridge) as client:
        assert gateway.posts == []
        assert kernel.hellos[0]["start"] == "unfinished"
        gateway.call(lambda: kernel.emit("iopub", "stream", {"name": "stdout", "text": "still"}))
        wait_until(lambda: text_of([client.get_iopub_msg(timeout=15)]) == "still", 5)


def test_attaching_to_a_dead_kernel_restarts_it(gateway: FakeGateway, tmp_path: Path) -> None:
    kernel = gateway.kernels["old"] = ScriptedKernel("old")
    kernel.state = "dead"
    with running_bridge(tmp_path, "--kernel-id", "old") as bridge, connected_client(bridge):
        assert kernel.epoch == 2
        wait_until(lambda: bridge.state["epoch"] == 2, 5)


def test_attaching_to_a_kernel_whose_death_the_gateway_has_not_heard_of_restarts_it(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    kernel = gateway.kernels["old"] = ScriptedKernel("old")
    kernel.state, kernel.told_state = "dead", "busy"
    with running_bridge(tmp_path, "--kernel-id", "old") as bridge, connected_client(bridge):
        assert kernel.commands == ["restart"]
        wait_until(lambda: bridge.state["epoch"] == 2, 5)


def test_attaching_while_the_gateway_is_away_waits_for_it(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    gateway.kernels["old"] = ScriptedKernel("old")
    gateway.cut(refuse=True)
    with running_bridge(tmp_path, "--kernel-id", "old") as bridge:
        wait_until(lambda: gateway.refusals >= 2, 15, what="a second attempt")
        assert bridge.process.poll() is None
        gateway.heal()
        wait_until(lambda: bridge.state.get("kernel_id") == "old", 10, what="the kernel is found")


def test_the_shutdown_request_of_a_guest_is_answered_and_ends_only_the_bridge(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    kernel = gateway.kernels["old"] = ScriptedKernel("old")
    with running_bridge(tmp_path, "--attach", "old") as bridge, connected_client(bridge) as client:
        assert request_shutdown(client)["content"] == {"status": "ok", "restart": False}
        assert bridge.exit_code() == 0
        assert bridge.state["state"] == "detached"
    assert not any(msg_type == "shutdown_request" for msg_type, _ in kernel.requests)
    assert (kernel.is_ended, gateway.deletes, gateway.posts) == (False, [], [])


def test_sigterm_to_a_guest_lets_go_of_the_kernel(gateway: FakeGateway, tmp_path: Path) -> None:
    kernel = gateway.kernels["old"] = ScriptedKernel("old")
    with running_bridge(tmp_path, "--attach", "old") as bridge, connected_client(bridge):
        bridge.process.terminate()
        assert bridge.exit_code() == 0
    assert (kernel.is_ended, gateway.deletes) == (False, [])


# --- shutdown, restart, interrupt ---------------------------------------------------------------


def request_shutdown(client: Any, *, restart: bool = False) -> dict[str, Any]:
    message = client.session.msg("shutdown_request", {"restart": restart})
    client.control_channel.send(message)
    reply: dict[str, Any] = client.get_control_msg(timeout=10)
    assert reply["parent_header"]["msg_id"] == message["header"]["msg_id"]
    return reply


def test_a_shutdown_request_ends_kernel_and_bridge_after_the_reply(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        assert request_shutdown(client)["content"]["restart"] is False
        assert bridge.exit_code() == 0
        assert gateway.kernel.is_ended
        assert bridge.state["state"] == "ended"


def test_a_restart_request_leaves_the_bridge_on_the_next_epoch(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        assert request_shutdown(client, restart=True)["content"]["restart"] is True
        wait_until(lambda: bridge.state["epoch"] == 2, 5)
        msg_id = client.execute("print 1")
        assert text_of(collect(client, msg_id)) == "#0\n"


def test_a_shutdown_request_ends_the_kernel_even_where_the_target_says_detach(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    write_target(gateway.url, on_close="detach")
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        request_shutdown(client)
        assert bridge.exit_code() == 0
        assert gateway.kernel.is_ended
        assert bridge.state["state"] == "ended"


def test_a_shutdown_that_the_kernel_does_not_answer_ends_it_over_rest(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        gateway.kernel.answers_shutdown = False
        assert request_shutdown(client)["content"]["status"] == "ok"
        assert bridge.exit_code() == 0
        assert gateway.deletes == [gateway.kernel.kernel_id]


def test_sigint_interrupts_the_kernel_and_not_the_bridge(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("block")
        wait_until(lambda: ("execute_request", msg_id) in gateway.kernel.requests, 5)
        bridge.process.send_signal(signal.SIGINT)
        assert reply_to(client, msg_id)["content"]["ename"] == "KeyboardInterrupt"
        assert bridge.process.poll() is None


# --- signals, orders, parents -------------------------------------------------------------------


@pytest.mark.parametrize("is_slow", [False, True])
def test_sigterm_from_a_living_parent_ends_the_kernel_in_half_a_second(
    gateway: FakeGateway, tmp_path: Path, is_slow: bool
) -> None:
    gateway.is_slow_to_delete = is_slow
    with running_bridge(tmp_path) as bridge, connected_client(bridge):
        begin = time.monotonic()
        bridge.process.terminate()
        assert bridge.exit_code() == 0
        assert time.monotonic() - begin < 0.5
        assert gateway.deletes == [gateway.kernel.kernel_id]


def test_sigterm_without_a_connection_is_as_quick(gateway: FakeGateway, tmp_path: Path) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge):
        gateway.is_slow_to_delete = True
        gateway.cut(refuse=True)
        begin = time.monotonic()
        bridge.process.terminate()
        assert bridge.exit_code() == 0
        assert time.monotonic() - begin < 0.5


def test_sigterm_lets_go_of_the_kernel_where_the_target_says_detach(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    write_target(gateway.url, on_close="detach")
    with running_bridge(tmp_path) as bridge, connected_client(bridge):
        bridge.process.terminate()
        assert bridge.exit_code() == 0
        assert not gateway.kernel.is_ended
        assert bridge.state["state"] == "detached"


@pytest.mark.parametrize(("order", "is_ended"), [("detach", False), ("end", True)])
def test_the_provisioner_decides_by_a_line_on_stdin(
    gateway: FakeGateway, tmp_path: Path, order: str, is_ended: bool
) -> None:
    with running_bridge(tmp_path, "--managed") as bridge, connected_client(bridge) as client:
        msg_id = client.execute("block")
        wait_until(lambda: ("execute_request", msg_id) in gateway.kernel.requests, 5)
        bridge.tell("interrupt")
        assert reply_to(client, msg_id)["content"]["ename"] == "KeyboardInterrupt"
        bridge.tell(order)
        assert bridge.exit_code() == 0
        assert gateway.kernel.is_ended is is_ended


def test_the_end_of_a_managed_bridges_stdin_keeps_the_kernel(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path, "--managed") as bridge:
        wait_running(bridge)
        assert bridge.process.stdin is not None
        bridge.process.stdin.close()
        assert bridge.exit_code() == 0
        assert not gateway.kernel.is_ended
        assert gateway.deletes == []


def test_a_bridge_whose_parent_is_killed_keeps_the_kernel_and_leaves(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    path = tmp_path / "kernel-test.json"
    write_connection_file(str(path), ip="127.0.0.1", key=b"secret")
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code, *bridge_command(path)])
    child: psutil.Process | None = None
    try:
        bridge = RunningBridge(parent, path)
        wait_running(bridge)
        child = psutil.Process(bridge.state["pid"])
        parent.kill()
        parent.wait(10)
        wait_until(lambda: not child.is_running() or child.status() == "zombie", 5)
        assert not gateway.kernel.is_ended
        assert gateway.deletes == []
        assert bridge.state["state"] == "detached"
    finally:
        for process in (parent, child):
            if process is not None and _is_running(process.pid):
                process.kill()
        parent.wait(10)


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# --- the kernel's end and the gateway's ---------------------------------------------------------


def test_a_kernels_death_is_answered_then_told_and_ends_the_bridge_with_1(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("die")
        assert reply_to(client, msg_id)["content"]["ename"] == "KernelDied"
        assert bridge.exit_code() == 1
        told = bridge.stderr()
        assert "killed by SIGKILL" in told
        assert "the last words" in told
        assert bridge.state["state"] == "died"
        # Nobody comes back for it: a front end without our provisioner starts another kernel.
        assert gateway.deletes == [bridge.state["kernel_id"]]


def test_a_kernel_ended_by_someone_else_ends_the_bridge_normally(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge):
        gateway.call(gateway.kernel.end)
        assert bridge.exit_code() == 0
        assert bridge.state["state"] == "ended"


def test_a_revoked_key_ends_the_bridge_with_a_sentence_and_keeps_the_kernel(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge):
        gateway.is_key_revoked = True
        gateway.cut(refuse=False)
        assert bridge.exit_code() == 3
        assert bridge.stderr().startswith("clouditia-kernel: ")
        assert gateway.deletes == []


def test_a_gateway_that_stays_away_does_not_end_the_bridge(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        gateway.cut(refuse=True)
        before = gateway.refusals
        wait_until(lambda: gateway.refusals >= before + 3, 10)
        assert bridge.process.poll() is None
        gateway.heal()
        msg_id = client.execute("print 1")
        assert text_of(collect(client, msg_id)).endswith("#0\n")  # after what it says of the wait


def test_bridge_leaves_no_child_processes(gateway: FakeGateway, tmp_path: Path) -> None:
    with running_bridge(tmp_path) as bridge:
        wait_running(bridge)
        assert psutil.Process(bridge.process.pid).children() == []
        assert os.getpid() == psutil.Process(bridge.process.pid).ppid()
