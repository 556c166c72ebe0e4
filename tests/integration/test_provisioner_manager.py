"""jupyter_client's own managers with a remote kernel: nbclient, consoles, scripts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from clouditia.errors import ConfigError, SessionError
from clouditia.rest import GatewayClient
from clouditia.settings import load_target, save_target
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 30.0


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    client = GatewayClient(load_target(module_target.name))
    yield client
    for kernel in client.list_kernels():
        client.shutdown(kernel["id"])


@pytest.fixture
def manager(
    module_target: LoggedInTarget, remote: GatewayClient, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A started manager; ended at once if the test has not ended it."""
    options = getattr(request, "param", {})
    started: Any = KernelManager(kernel_name=module_target.kernel_name(), **options)
    started.start_kernel()
    yield started
    if started.has_kernel:
        started.shutdown_kernel(now=True)
    started.context.destroy(linger=0)


def value_of(manager: Any, code: str) -> str:
    """What ``code`` prints, asked by a client of its own."""
    printed = ""

    def hear(message: dict[str, Any]) -> None:
        nonlocal printed
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed += message["content"]["text"]

    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=WAIT_S)
        client.execute_interactive(code, timeout=WAIT_S, output_hook=hear)
    finally:
        client.stop_channels()
    return printed


def test_shutdown_ends_the_remote_kernel_and_leaves_no_file(
    manager: Any, remote: GatewayClient
) -> None:
    assert value_of(manager, "print(6 * 7)") == "42\n"
    connection_file = Path(manager.connection_file)
    manager.shutdown_kernel()
    wait_until(lambda: not remote.list_kernels(), WAIT_S)
    assert not list(connection_file.parent.glob(f"{connection_file.name}*"))


def test_shutdown_now_ends_the_remote_kernel_too(manager: Any, remote: GatewayClient) -> None:
    manager.shutdown_kernel(now=True)
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


@pytest.mark.parametrize("now", [False, True])
def test_a_restart_keeps_the_bridge_and_raises_the_epoch(
    manager: Any, remote: GatewayClient, now: bool
) -> None:
    value_of(manager, "x = 1")
    pid, (before,) = manager.provisioner.pid, remote.list_kernels()
    manager.restart_kernel(now=now)
    (after,) = remote.list_kernels()
    assert after["id"] == before["id"]
    assert after["clouditia"]["epoch"] == before["clouditia"]["epoch"] + 1
    assert manager.provisioner.pid == pid
    assert value_of(manager, "print('x' in globals())") == "False\n"


@pytest.mark.parametrize("manager", [{"cache_ports": False}], indirect=True)
def test_a_restart_on_new_ports_starts_a_bridge_for_the_same_kernel(
    manager: Any, remote: GatewayClient
) -> None:
    pid, (before,) = manager.provisioner.pid, remote.list_kernels()
    manager.restart_kernel(newports=True)
    (after,) = remote.list_kernels()
    assert after["id"] == before["id"]
    assert after["clouditia"]["epoch"] > before["clouditia"]["epoch"]
    assert manager.provisioner.pid != pid
    assert value_of(manager, "print(1)").endswith("1\n")


def test_a_restart_of_a_dead_bridge_restarts_its_kernel(
    manager: Any, remote: GatewayClient
) -> None:
    value_of(manager, "x = 1")
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    wait_until(lambda: not manager.is_alive(), WAIT_S)
    manager.restart_kernel()
    assert len(remote.list_kernels()) == 1
    assert value_of(manager, "print('x' in globals())").endswith("False\n")


def test_the_kernel_of_a_killed_bridge_is_ended_by_a_shutdown(
    manager: Any, remote: GatewayClient
) -> None:
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    wait_until(lambda: not manager.is_alive(), WAIT_S)
    assert len(remote.list_kernels()) == 1
    manager.shutdown_kernel()
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_kernel_spec_that_the_gateway_lacks_is_refused_with_its_reason(
    module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    manager: Any = KernelManager(kernel_name=module_target.kernel_name())
    manager.kernel_spec.argv[4] = "absent"
    with pytest.raises(SessionError, match=r"did not start: .*no kernelspec 'absent'"):
        manager.start_kernel()
    assert remote.list_kernels() == []
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def test_an_unknown_target_is_refused_before_anything_starts(
    module_target: LoggedInTarget,
) -> None:
    manager: Any = KernelManager(kernel_name=module_target.kernel_name())
    manager.kernel_spec.argv[2] = "gone"
    with pytest.raises(ConfigError, match="no target 'gone'"):
        manager.start_kernel()
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def test_nbclient_runs_a_notebook_and_ends_the_kernel(
    module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    v4: Any = nbformat.v4
    cells = [v4.new_code_cell("x = 20"), v4.new_code_cell("print(x + 1)")]
    notebook = v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name=module_target.kernel_name(), timeout=WAIT_S).execute()
    assert notebook.cells[1].outputs[0].text == "21\n"
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_shutdown_ends_the_kernel_even_where_closing_lets_go(
    module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    """``on_close`` is about closing a window, not about an explicit wish."""
    from dataclasses import replace

    target = load_target(module_target.name)
    save_target(replace(target, on_close="detach"))
    try:
        manager: Any = KernelManager(kernel_name=module_target.kernel_name())
        manager.start_kernel()
        manager.shutdown_kernel()
        wait_until(lambda: not remote.list_kernels(), WAIT_S)
        manager.context.destroy(linger=0)
    finally:
        save_target(target)
