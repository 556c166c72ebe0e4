"""A gateway in VS Code as "Existing Jupyter Server": its own libraries, no part of Clouditia.

VS Code itself cannot run here; ``node_harness`` does what its Jupyter extension does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.front_ends.node_harness import HarnessError, NotebookKernel, VsCodeServer
from tests.front_ends.vscode_cells import (
    BLOCKERS,
    ECHO,
    MIB,
    STATE_S,
    answer_prompts,
    comm_answer,
    judge,
    kernel_ids,
    revoke,
)

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

V1 = "v1.kernel.websocket.jupyter.org"
UNKNOWN_KEY = "ck_0123456789abcdef_" + "A" * 43


@pytest.fixture(scope="module")
def rest(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


@pytest.fixture(scope="module")
def window(module_target: LoggedInTarget) -> Iterator[VsCodeServer]:
    with VsCodeServer(module_target.gateway.url, module_target.key) as window:
        window.connect()
        yield window
        assert not [text for text in window.logs if "Canceled future" not in text]


@pytest.fixture(scope="module")
def kernel(window: VsCodeServer) -> Iterator[NotebookKernel]:
    kernel = window.open_notebook("python3")
    yield kernel
    kernel.call("server_shutdown")


# --- entering the URL ----------------------------------------------------------------------------


def test_the_picker_lists_the_kernelspecs_of_the_gateway_by_their_titles(
    window: VsCodeServer,
) -> None:
    specs = window.kernelspecs()
    assert specs["python3"]["display_name"] == "Python 3 (ipykernel)"
    assert specs["python3"]["language"] == "python"


def test_a_url_with_a_token_is_all_that_is_asked_for(
    module_target: LoggedInTarget,
) -> None:
    with VsCodeServer(module_target.gateway.url, module_target.key) as window:
        found = window.connect()
        requests = window.requests()
    assert found["headers"] == {}  # nothing was logged in to
    assert ("GET", "/api/kernels", 200) in requests
    assert ("GET", "/api/kernelspecs", 200) in requests
    assert all(status < 400 for _, _, status in requests)


def test_a_wrong_token_is_refused_and_the_right_one_works_after_it(
    module_target: LoggedInTarget,
) -> None:
    url = module_target.gateway.url
    with VsCodeServer(url, UNKNOWN_KEY) as window:
        with pytest.raises(HarnessError, match="key") as refused:
            window.connect()
        assert refused.value.status == 401
    with VsCodeServer(url, module_target.key) as window:
        assert window.connect()["running"] >= 0
        assert window.kernelspecs()


def test_without_a_token_a_key_is_the_password_and_a_cookie_does_the_rest(
    module_target: LoggedInTarget, rest: GatewayClient
) -> None:
    gateway = module_target.gateway
    key = gateway.create_key("ada")
    before = kernel_ids(rest)
    with VsCodeServer(gateway.url, password=key) as window:
        found = window.connect()
        assert found["requires_password"]
        assert set(found["headers"]) == {"Cookie", "X-XSRFToken"}
        assert key not in str(found["headers"])
        kernel = window.open_notebook("python3")
        assert kernel.run("print('by cookie')").text() == "by cookie\n"
        assert window.sockets()[-1]["protocol"] == V1
        kernel.call("server_shutdown")
        wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="its kernel is gone")

        revoke(gateway, key)
        for operation in (window.running, lambda: window.open_notebook("python3")):
            with pytest.raises(HarnessError) as refused:
                operation()
            assert refused.value.status == 401
    assert kernel_ids(rest) == before


def test_a_wrong_password_gives_no_cookie(module_target: LoggedInTarget) -> None:
    with VsCodeServer(module_target.gateway.url, password=UNKNOWN_KEY) as window:
        with pytest.raises(HarnessError) as refused:
            window.connect()
        assert refused.value.status == 401
        assert ("POST", "/login", 401) in window.requests()


# --- cells ---------------------------------------------------------------------------------------


def test_a_notebook_is_a_session_and_its_socket_speaks_v1(
    window: VsCodeServer, kernel: NotebookKernel, rest: GatewayClient
) -> None:
    kernel_id = kernel.state()["id"]
    assert kernel_id in kernel_ids(rest)
    assert ("POST", "/api/sessions", 201) in window.requests()
    (socket,) = (each for each in window.sockets() if kernel_id in each["path"])
    # A server that negotiates nothing hangs it (microsoft/vscode-jupyter#17509).
    assert (socket["protocol"], socket["is_open"]) == (V1, True)


def test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made(
    kernel: NotebookKernel,
) -> None:
    ran = kernel.run(
        "import sys\nfrom IPython.display import HTML, display\n"
        "print('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\n"
        "display(HTML('<b>three</b>'))\n{}['absent']"
    )
    types = [each.msg_type for each in ran.outputs]
    assert types == [
        "status",
        "execute_input",
        "stream",
        "stream",
        "display_data",
        "error",
        "status",
    ]
    assert [each["name"] for each in ran.of("stream")] == ["stdout", "stderr"]
    assert ran.of("display_data")[0]["data"]["text/html"] == "<b>three</b>"
    assert ran.of("error")[0]["ename"] == "KeyError"
    assert kernel.settled(ran.reply.parent) == "error"


def test_input_and_a_password_are_asked_for_in_the_window(kernel: NotebookKernel) -> None:
    asked, printed = answer_prompts(kernel)
    assert asked == [("name? ", False), ("word? ", True)]
    assert printed == "Ada terces\n"


def test_a_widget_sends_a_megabyte_both_ways(kernel: NotebookKernel) -> None:
    kernel.run(ECHO)
    sent = os.urandom(MIB), os.urandom(MIB)
    comm_id, _ = kernel.open_comm("echo", {})
    msg_id = kernel.send_to_comm(comm_id, {"n": 1}, *sent)
    echo = comm_answer(kernel, msg_id)
    assert echo.content == {"comm_id": comm_id, "data": {"n": 1}}
    assert echo.buffers == [buffer[::-1] for buffer in sent]


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_the_interrupt_button_ends_the_cell_and_keeps_the_kernel(
    kernel: NotebookKernel, blocker: str
) -> None:
    kernel.run("kept = 'still here'")
    msg_id = kernel.execute(blocker)
    kernel.printed(msg_id, "on")
    kernel.call("server_interrupt")
    assert kernel.result(msg_id).reply.content["ename"] == "KeyboardInterrupt"
    assert kernel.run("print(kept)").text() == "still here\n"


def test_a_second_window_on_the_same_kernel_sees_the_outputs(
    module_target: LoggedInTarget, kernel: NotebookKernel
) -> None:
    with VsCodeServer(module_target.gateway.url, module_target.key) as second:
        second.connect()
        kernel_id = kernel.state()["id"]
        assert kernel_id in {each["id"] for each in second.running()}
        other = second.attach(kernel_id)
        msg_id = kernel.execute("shared = 1\nprint('for both')")
        other.printed(msg_id, "for both")
        assert kernel.result(msg_id).text() == "for both\n"
        theirs = other.execute("print(shared, 'from the second')")
        kernel.printed(theirs, "1 from the second")
        assert other.result(theirs).reply.content["status"] == "ok"
        # A reply that went astray would have come before the reply to a later request.
        kernel.run("pass")
        assert not [
            each for each in kernel.seen if each.channel == "shell" and each.parent == theirs
        ]
        other.call("server_close")
    assert kernel.run("print(shared)").text() == "1\n"


# --- the end of a kernel -------------------------------------------------------------------------


@pytest.fixture
def doomed(window: VsCodeServer, rest: GatewayClient) -> Iterator[NotebookKernel]:
    """A kernel for one test."""
    before = kernel_ids(rest)
    yield window.open_notebook("python3")
    for left in kernel_ids(rest) - before:
        rest.shutdown(left)


def test_restarting_empties_the_namespace_under_the_same_kernel_id(
    doomed: NotebookKernel,
) -> None:
    kernel_id = doomed.state()["id"]
    for _ in range(2):
        before = doomed.run("import os\ngone = 1\nprint(os.getpid())").text()
        doomed.call("server_restart")
        ran = doomed.run("import os\nprint('gone' in globals())\nprint(os.getpid())")
        is_kept, after = ran.text().splitlines()
        assert (is_kept, after != before.strip()) == ("False", True)
        assert doomed.state()["id"] == kernel_id


def test_restarting_ends_a_busy_cell_and_the_next_one_runs(doomed: NotebookKernel) -> None:
    msg_id = doomed.execute(BLOCKERS["a busy loop"])
    doomed.printed(msg_id, "on")
    doomed.call("server_restart")
    assert doomed.settled(msg_id)
    assert doomed.run("print('fresh')").text() == "fresh\n"


def test_shutting_down_deletes_the_session_and_ends_the_kernel(
    window: VsCodeServer, doomed: NotebookKernel, rest: GatewayClient
) -> None:
    kernel_id = doomed.state()["id"]
    doomed.call("server_shutdown")
    deleted = [
        path for method, path, status in window.requests() if (method, status) == ("DELETE", 204)
    ]
    assert deleted[-1].startswith("/api/sessions/")
    wait_until(lambda: kernel_id not in kernel_ids(rest), STATE_S, what="the kernel is gone")


def test_closing_the_window_keeps_the_kernel_for_the_next_one(
    module_target: LoggedInTarget, rest: GatewayClient
) -> None:
    url, key = module_target.gateway.url, module_target.key
    with VsCodeServer(url, key) as first:
        first.connect()
        kernel = first.open_notebook("python3")
        kernel_id = kernel.state()["id"]
        kernel.run("kept = 'still here'")
        first.disconnect()
    with VsCodeServer(url, key) as second:
        second.connect()
        again = second.attach(kernel_id)
        assert again.run("print(kept)").text() == "still here\n"
        again.call("server_close")
    assert kernel_id in kernel_ids(rest)
    rest.shutdown(kernel_id)


# --- the network ---------------------------------------------------------------------------------


@pytest.fixture
def proxy(module_gateway: GatewayProcess) -> Iterator[ChaosProxy]:
    port = int(module_gateway.url.rsplit(":", 1)[1].rstrip("/"))
    with ChaosProxy("127.0.0.1", port) as proxy:
        yield proxy


def test_a_cell_that_prints_while_the_websocket_is_cut_completes(
    module_target: LoggedInTarget, proxy: ChaosProxy, rest: GatewayClient
) -> None:
    oracle = LineOracle(300)
    with VsCodeServer(f"http://127.0.0.1:{proxy.port}", module_target.key) as window:
        window.connect()
        kernel = window.open_notebook("python3")
        kernel.run("kept = 'still here'")
        kernel.seen.clear()
        msg_id = kernel.execute(oracle.code(oracle.count, every_s=0.01))
        kernel.printed(msg_id, "#50")
        proxy.cut_once()
        kernel.printed(msg_id, f"#{oracle.count - 1}")
        judge(kernel, msg_id, oracle)
        assert (oracle.lost, oracle.reply, oracle.is_done) == (0, True, True)
        assert kernel.connections[-2:] == ["connecting", "connected"]
        sockets = [each for each in window.sockets() if kernel.state()["id"] in each["path"]]
        assert [each["protocol"] for each in sockets] == [V1, V1]
        assert len({each["session_id"] for each in sockets}) == 1
        assert kernel.run("print(kept)").text() == "still here\n"
        kernel_id = kernel.state()["id"]
    rest.shutdown(kernel_id)


@pytest.mark.slow
def test_a_gateway_that_is_killed_is_found_again_with_all_lines(target: LoggedInTarget) -> None:
    """The library looks again after 10 to 30 s; what it may have seen is sent once more."""
    oracle = LineOracle(300)
    with VsCodeServer(target.gateway.url, target.key) as window:
        window.connect()
        kernel = window.open_notebook("python3")
        kernel.run("kept = 'still here'")
        kernel.seen.clear()
        msg_id = kernel.execute(oracle.code(oracle.count, every_s=0.01))
        kernel.printed(msg_id, "#50")
        target.gateway.restart(kill=True)
        window.wait(lambda: msg_id in kernel.done, "the end of the cell", timeout_s=120)
        judge(kernel, msg_id, oracle)
        assert (oracle.lost, oracle.reply, oracle.is_done) == (0, True, True)
        assert kernel.run("print(kept)").text() == "still here\n"


def test_the_token_in_the_urls_of_vs_code_is_in_no_log(
    kernel: NotebookKernel, module_target: LoggedInTarget
) -> None:
    gateway = module_target.gateway
    logs = [path for path in Path(gateway.state_dir).rglob("*.log") if path.stat().st_size]
    assert kernel.state()["connection"] == "connected"
    assert logs
    texts: list[str] = [path.read_text(errors="replace") for path in logs] + [gateway.output]
    secret = module_target.key.split("_")[2]
    assert not [text for text in texts if secret in text]
