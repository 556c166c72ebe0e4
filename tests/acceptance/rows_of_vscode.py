"""Rows about VS Code, and about several front ends on one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.front_ends.node_harness import VsCodeRaw, VsCodeServer
from tests.integration.front_end import connected, started
from tests.integration.second_laptop import second_laptop

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.testing.gateway_process import GatewayProcess

WAIT_S = 60.0


def vscode_runs_remote_kernels_both_ways(gateway: GatewayProcess) -> None:
    target = log_in(gateway)
    hosts = {process.pid for process in processes_under(gateway.state_dir)}
    with VsCodeRaw(target.kernel_name(), gateway.home) as window:
        notebook = window.open_notebook()
        pid = int(notebook.run("import os\nprint(os.getpid())").text())
        assert pid in {process.pid for process in processes_under(gateway.state_dir)} - hosts
        window.close(notebook)
    with VsCodeServer(gateway.url, target.key) as window:
        window.connect()
        notebook = window.open_notebook("python3")
        assert notebook.run("print('there')").text() == "there\n"
        notebook.call("server_shutdown")


def one_kernel_in_three_front_ends(gateway: GatewayProcess) -> None:
    """A local kernelspec, VS Code on the gateway, and a second laptop's terminal, all live."""
    target, go = log_in(gateway), gateway.home.directory / "go"
    waits = f"import os\nprint('begun', flush=True)\nwhile not os.path.exists({str(go)!r}): pass\n"
    with (
        started(target.kernel_name()) as manager,
        connected(manager) as front_end,
        VsCodeServer(gateway.url, target.key) as window,
        second_laptop(gateway) as laptop,
    ):
        (kernel,) = GatewayClient(load_target(target.name)).list_kernels()
        front_end.run("shared = 20")
        window.connect()
        other = window.attach(kernel["id"])
        msg_id = front_end.execute(waits + "print('shared is', shared)")
        other.printed(msg_id, "begun")
        with laptop.attached(kernel["id"]) as terminal:
            assert terminal.stdout is not None
            assert terminal.stdout.readline() == "begun\n"
            go.touch()
            assert terminal.communicate(timeout=WAIT_S)[0] == "shared is 20\n"
        other.printed(msg_id, "shared is 20")
        assert front_end.result(msg_id).text() == "begun\nshared is 20\n"
        assert other.run("print(shared + 1)").text() == "21\n"
        there = laptop.run("kernelspec", "attach", kernel["id"])["name"]
        with VsCodeRaw(there, laptop.home) as remote_window:
            notebook = remote_window.open_notebook()
            assert notebook.run("print(shared + 2)").text() == "22\n"
            remote_window.close(notebook)
        assert front_end.run("print(shared + 3)").text() == "23\n"
        other.call("server_close")


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {
    "G2": vscode_runs_remote_kernels_both_ways,
    "G4": one_kernel_in_three_front_ends,
}
