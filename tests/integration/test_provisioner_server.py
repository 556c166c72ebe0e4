"""A Jupyter server on the laptop with a remote kernel: who ends what, and what survives."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.local_server import LocalServer

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until

WAIT_S = 30.0
#: How long a stop may take, and how soon the kernel is listed as one without a client.
EXIT_S, LISTED_S = 5.0, 5.0


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    """The gateway as its user sees it; no kernel outlives a test."""
    client = GatewayClient(load_target(module_target.name))
    yield client
    for kernel in client.list_kernels():
        client.shutdown(kernel["id"])


def only_kernel(remote: GatewayClient) -> dict[str, Any]:
    kernels = remote.list_kernels()
    assert len(kernels) == 1, kernels
    return kernels[0]


def test_deleting_the_session_ends_the_remote_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        assert only_kernel(remote)["name"] == "python3"
        server.request("DELETE", f"/api/sessions/{session['id']}")
        wait_until(lambda: not remote.list_kernels(), WAIT_S, what="the kernel is ended")


def test_a_stopping_server_lets_go_of_a_running_cell_without_interrupting_it(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    marker = module_home.directory / "finished"
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as notebook:
            msg_id = notebook.send(
                "import time\nprint('on', flush=True)\ntime.sleep(4)\n"
                f"open({str(marker)!r}, 'w').write('whole')"
            )
            notebook.read_until("stream", msg_id)
        kernel_id = only_kernel(remote)["id"]
        began = time.monotonic()
        server.stop(signal.SIGTERM)
        assert time.monotonic() - began < EXIT_S
        assert only_kernel(remote)["id"] == kernel_id
        wait_until(marker.exists, WAIT_S, what="the cell ran to its end")


def test_a_server_whose_gateway_is_out_of_reach_stops_in_time_and_keeps_the_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    port = urlsplit(module_target.gateway.url).port or 0
    with ChaosProxy("127.0.0.1", port) as proxy:
        far = log_in(module_target.gateway, name="far", url=f"http://127.0.0.1:{proxy.port}")
        with LocalServer(module_home) as server:
            session = server.open_session(far.kernel_name())
            with server.client(session["kernel"]["id"]) as notebook:
                notebook.run("kept = 1")
            (kernel,) = GatewayClient(load_target("far")).list_kernels()
            proxy.black_hole()
            began = time.monotonic()
            server.stop(signal.SIGTERM)
            assert time.monotonic() - began < EXIT_S
            proxy.heal()
        began = time.monotonic()
        (after,) = GatewayClient(load_target("far")).list_kernels()
        assert time.monotonic() - began < LISTED_S
        assert (after["id"], after["clouditia"]["epoch"]) == (kernel["id"], 1)
        GatewayClient(load_target("far")).shutdown(kernel["id"])


def test_a_killed_server_lets_go_of_its_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        server.open_session(module_target.kernel_name())
        kernel_id = only_kernel(remote)["id"]
        server.stop(signal.SIGKILL)
        wait_until(
            lambda: only_kernel(remote)["connections"] == 0, LISTED_S, what="the bridge has left"
        )
        assert only_kernel(remote)["id"] == kernel_id


def test_a_restart_keeps_kernel_id_bridge_and_websocket_and_empties_the_namespace(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        kernel_id = session["kernel"]["id"]
        with server.client(kernel_id) as notebook:
            assert notebook.run("x = 41") == ("ok", "")
            before = only_kernel(remote)
            server.request("POST", f"/api/kernels/{kernel_id}/restart")
            after = only_kernel(remote)
            assert after["id"] == before["id"]
            assert after["clouditia"]["epoch"] == before["clouditia"]["epoch"] + 1
            assert notebook.run("print('x' in globals())") == ("ok", "False\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_an_interrupt_reaches_the_running_cell(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        kernel_id = session["kernel"]["id"]
        with server.client(kernel_id) as notebook:
            msg_id = notebook.send("print('on', flush=True)\nwhile True: pass")
            notebook.read_until("stream", msg_id)
            server.request("POST", f"/api/kernels/{kernel_id}/interrupt")
            error, _ = notebook.read_until("error", msg_id)
            assert error["ename"] == "KeyboardInterrupt"
            assert notebook.run("print(1 + 1)") == ("ok", "2\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_crashed_kernel_comes_back_under_its_id_by_the_servers_own_restarter(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        kernel_id = session["kernel"]["id"]
        before = only_kernel(remote)
        with server.client(kernel_id) as notebook:
            msg_id = notebook.send("import os; os.kill(os.getpid(), 9)")
            error, _ = notebook.read_until("error", msg_id)
            assert "SIGKILL" in error["evalue"]

        def is_back() -> bool:
            now = only_kernel(remote)
            return bool(
                now["clouditia"]["epoch"] > before["clouditia"]["epoch"] and now["connections"] == 1
            )

        wait_until(is_back, WAIT_S, what="the restarter has brought the kernel back")
        assert only_kernel(remote)["id"] == before["id"]
        with server.client(kernel_id) as notebook:
            status, printed = notebook.run("print(2)")
            assert status == "ok"
            assert printed.endswith("2\n")
            assert "its variables are gone" in printed
        server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_killed_bridge_finds_its_kernel_again_with_all_variables(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        kernel_id = session["kernel"]["id"]
        with server.client(kernel_id) as notebook:
            notebook.run("x = 41")
        os.kill(bridge_pid(module_home), signal.SIGKILL)
        wait_until(lambda: only_kernel(remote)["connections"] == 0, WAIT_S)
        wait_until(
            lambda: only_kernel(remote)["connections"] == 1, WAIT_S, what="a new bridge is there"
        )
        with server.client(kernel_id) as notebook:
            assert notebook.run("print(x + 1)") == ("ok", "42\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_kernel_ended_elsewhere_does_not_come_back_by_itself(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        kernel_id = session["kernel"]["id"]
        remote.shutdown(only_kernel(remote)["id"])
        wait_until(
            lambda: "was ended, not by this front end" in server.log.read_text(),
            WAIT_S,
            what="the server's restarter has tried and was refused",
        )
        assert remote.list_kernels() == []
        server.request("POST", f"/api/kernels/{kernel_id}/restart")
        with server.client(kernel_id) as notebook:
            assert notebook.run("print(3)") == ("ok", "3\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_an_idle_culler_ends_the_remote_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    options = [
        "--MappingKernelManager.cull_idle_timeout=2",
        "--MappingKernelManager.cull_interval=1",
    ]
    with LocalServer(module_home, *options) as server:
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as notebook:
            notebook.run("1")
        wait_until(lambda: not remote.list_kernels(), WAIT_S, what="the culler has ended it")


def bridge_pid(home: IsolatedHome) -> int:
    """From the state file beside the newest connection file."""
    runtime = home.environment()["JUPYTER_RUNTIME_DIR"]
    with os.scandir(runtime) as entries:
        states = [entry for entry in entries if entry.name.endswith(".clouditia")]
    newest = max(states, key=lambda entry: entry.stat().st_mtime)
    with open(newest.path, encoding="utf-8") as file:
        return int(json.load(file)["pid"])
