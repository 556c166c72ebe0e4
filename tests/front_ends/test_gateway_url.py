"""A stock Jupyter server with ``--gateway-url``, without any Clouditia part on its side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.front_ends.typed_commands import WAIT_S, code_blocks, wait_for_no_kernel
from tests.integration.local_server import LocalServer, NotebookClient

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

LINES = 60
#: In the header of the messages of `NotebookClient`.
MESSAGE_SESSION = "s"
BINARY = "from comm import create_comm\n_ = create_comm('t', buffers=[bytes(range(256))])"


@pytest.fixture(scope="module")
def remote(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


@pytest.fixture(scope="module")
def network(module_target: LoggedInTarget) -> Iterator[ChaosProxy]:
    """Between the server and the gateway."""
    address = urlsplit(module_target.gateway.url)
    with ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def server(
    module_target: LoggedInTarget, module_home: IsolatedHome, network: ChaosProxy
) -> Iterator[LocalServer]:
    """The options and the variable are those of the docs; key and address are the gateway's."""
    (command,) = code_blocks("gateway-url", "sh")
    variable, *_, option = command.split()
    name = variable.removesuffix("=ck_…")
    option = option.replace("https://gpu-box:8443", f"http://{network.host}:{network.port}")
    # Undone with the rest of the environment by `module_home`.
    os.environ[name] = module_target.key
    with LocalServer(module_home, option) as running:
        yield running


@pytest.fixture(scope="module")
def session(server: LocalServer, remote: GatewayClient) -> dict[str, Any]:
    """A notebook with a kernel that is ready."""
    opened = server.open_session("python3")
    with server.client(opened["kernel"]["id"]) as page:
        assert page.run("1")[0] == "ok"
    return opened


@pytest.fixture
def page(server: LocalServer, session: dict[str, Any]) -> Iterator[NotebookClient]:
    """The notebook's page, loaded anew."""
    with server.client(session["kernel"]["id"]) as loaded:
        yield loaded


def test_the_server_offers_the_gateways_kernels_and_starts_them_there(
    server: LocalServer, session: dict[str, Any], remote: GatewayClient
) -> None:
    offered = server.request("GET", "/api/kernelspecs")["kernelspecs"]
    assert set(offered) == {"python3"}  # not the target's, which lie in this home
    assert [kernel["id"] for kernel in remote.list_kernels()] == [session["kernel"]["id"]]
    listed = server.request("GET", "/api/kernels")
    assert [kernel["id"] for kernel in listed] == [session["kernel"]["id"]]


def test_cells_print_and_fail(page: NotebookClient) -> None:
    assert page.run("import os; print(os.environ['KERNEL_USERNAME'])") == ("ok", "ada\n")
    error, _ = page.read_until("error", page.send("1 / 0"))
    assert error["ename"] == "ZeroDivisionError"


def test_an_interrupt_ends_the_cell_and_keeps_the_variables(
    server: LocalServer, session: dict[str, Any], page: NotebookClient
) -> None:
    page.run("kept = 'still here'")
    busy = page.send("print('on', flush=True)\nwhile True: pass")
    page.read_until("stream", busy)
    server.request("POST", f"/api/kernels/{session['kernel']['id']}/interrupt")
    reply, _ = page.read_until("execute_reply", busy)
    assert reply["ename"] == "KeyboardInterrupt"
    assert page.run("print(kept)") == ("ok", "still here\n")


def test_a_cut_costs_no_line(
    server: LocalServer, session: dict[str, Any], network: ChaosProxy, tmp_path: Path
) -> None:
    go_on, done, half = tmp_path / "go", tmp_path / "done", LINES // 2
    code = (
        "import pathlib, time\n"
        f"for i in range({LINES}):\n"
        f"    while i == {half} and not pathlib.Path({str(go_on)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "    print(f'#{i}', flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )
    with as_jupyterlab_connects(server, session["kernel"]["id"]) as page:
        cell, printed = page.send(code), ""
        while f"#{half - 1}\n" not in printed:
            content, _ = page.read_until("stream", cell)
            printed += content["text"]
        network.cut()
        go_on.touch()
        wait_until(done.exists, WAIT_S, what="the cell prints while nobody listens")
        network.heal()
        reply, rest = page.read_until("execute_reply", cell)
    assert reply["status"] == "ok"
    numbers = [int(line[1:]) for line in (printed + rest).split()]
    # What was on its way at the moment of the cut comes again: nobody can know that it arrived.
    again = numbers[half]
    assert again <= half
    assert numbers == [*range(half), *range(again, LINES)]


def as_jupyterlab_connects(server: LocalServer, kernel_id: str) -> NotebookClient:
    """A page whose address names the session of its messages: by that its replies find it again."""
    address = server.channels_url(kernel_id).rpartition("session_id=")[0]
    return NotebookClient(f"{address}session_id={MESSAGE_SESSION}")


def test_a_binary_message_ends_the_page_and_a_reload_finds_kernel_and_variables(
    server: LocalServer, session: dict[str, Any], page: NotebookClient
) -> None:
    page.run("before = 'kept'")
    page.send(BINARY)
    wait_until(
        lambda: "UnicodeDecodeError" in server.log.read_text(), WAIT_S, what="its reader dies"
    )
    with server.client(session["kernel"]["id"]) as reloaded:
        assert reloaded.run("print(before)") == ("ok", "kept\n")


def test_the_key_reaches_neither_the_kernel_nor_the_gateways_log(
    page: NotebookClient, module_target: LoggedInTarget
) -> None:
    status, printed = page.run("import os; print(dict(os.environ))")
    assert (status, "KERNEL_USERNAME" in printed) == ("ok", True)
    assert module_target.key not in printed
    assert module_target.key not in (module_target.gateway.state_dir / "gateway.log").read_text()


def test_with_the_key_in_its_config_file_the_server_works_and_does_not_log_it(
    module_target: LoggedInTarget,
    module_home: IsolatedHome,
    remote: GatewayClient,
    session: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JUPYTER_GATEWAY_AUTH_TOKEN")
    config = module_home.directory / "jc" / "jupyter_server_config.py"
    config.write_text(f"c.GatewayClient.auth_token = {module_target.key!r}\n")
    with LocalServer(module_home, f"--gateway-url={module_target.gateway.url}") as other:
        opened = other.open_session("python3", "b.ipynb")
        other.request("DELETE", f"/api/sessions/{opened['id']}")
        assert "started kernel" in other.log.read_text()
        assert module_target.key not in other.log.read_text()
    config.unlink()


@pytest.fixture
def restarted(server: LocalServer) -> Iterator[str]:
    """A kernel for one test: its process is not the same afterwards."""
    opened = server.open_session("python3", "restarted.ipynb")
    yield str(opened["kernel"]["id"])
    server.request("DELETE", f"/api/sessions/{opened['id']}")


def test_a_restart_empties_the_namespace(server: LocalServer, restarted: str) -> None:
    with server.client(restarted) as page:
        page.run("gone = 1")
        server.request("POST", f"/api/kernels/{restarted}/restart")
        assert page.run("print('gone' in globals())") == ("ok", "False\n")


def test_shutting_the_notebook_down_ends_the_remote_kernel(
    server: LocalServer, session: dict[str, Any], remote: GatewayClient
) -> None:
    server.request("DELETE", f"/api/sessions/{session['id']}")
    wait_for_no_kernel(remote)
