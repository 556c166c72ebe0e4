"""Kernels of stock servers in a front end: jupyter_server 2, Enterprise Gateway 3.3."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from tests.integration.front_end import FrontEnd, connected, started
from tests.peers.plain_targets import WAIT_S, PlainTarget, RemoteKernel, command, log_in
from websockets.sync.client import connect

from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import command_line, processes_under
from clouditia.testing.waiting import wait_until

ECHO = """
import comm
def opened(channel, message):
    @channel.on_msg
    def echo(message):
        reversed_buffers = [bytes(buffer)[::-1] for buffer in message["buffers"]]
        channel.send(message["content"]["data"], buffers=reversed_buffers)
comm.get_comm_manager().register_target("echo", opened)
"""
BUSY = "print('on', flush=True)\nwhile True: pass"


# --- logging in ---------------------------------------------------------------------------------


def test_the_login_names_the_server_and_says_once_what_it_lacks(target: PlainTarget) -> None:
    server = {"stock": "jupyter_server 2.", "eg": "Enterprise Gateway 3.3.0"}[target.name]
    assert f"is a stock server ({server}" in target.login.err
    assert "10 MiB" in target.login.err
    assert load_target(target.name).kind == "plain"
    listing = command(target.home, "kernels", "list", "--target", target.name)
    assert (listing.code, "stock server" in listing.err) == (0, False)


def test_a_wrong_token_is_refused_with_the_reason_and_leaves_nothing(target: PlainTarget) -> None:
    done = log_in(target.home, target.server.url, "mistyped", "wrong")
    assert done.code == 3
    assert target.server.url in done.err
    assert "clouditia login" in done.err
    assert "_xsrf" not in done.err
    assert not (target.home.config_dir / "keys" / "mistyped.key").exists()
    assert not list(target.home.jupyter_data_dir.glob("kernels/clouditia-mistyped-*"))


# --- a kernel and what it says ------------------------------------------------------------------


def test_a_notebook_runs_and_its_kernel_is_ended(remote: RemoteKernel) -> None:
    v4: Any = nbformat.v4
    cells = ["x = 20", "print(x + 1)\nx"]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    before = set(remote.target.server.kernel_ids)
    nbclient.NotebookClient(notebook, kernel_name=remote.name, timeout=60).execute()
    assert [output.get("text") for output in notebook.cells[1].outputs] == ["21\n", None]
    assert notebook.cells[1].outputs[1].data == {"text/plain": "20"}
    assert set(remote.target.server.kernel_ids) == before


def test_text_rich_output_and_errors_arrive(front_end: FrontEnd) -> None:
    ran = front_end.run(
        "import sys\nfrom IPython.display import HTML, display\n"
        "print('out'); print('err', file=sys.stderr); display(HTML('<b>rich</b>')); 1 / 0"
    )
    assert ran.text() == "out\n"
    assert ran.text("stderr") == "err\n"
    assert ran.of("display_data")[0]["data"]["text/html"] == "<b>rich</b>"
    assert ran.of("error")[0]["ename"] == ran.reply.content["ename"] == "ZeroDivisionError"


def test_a_question_is_answered_by_the_front_end_that_ran_the_cell(
    manager: Any, front_end: FrontEnd
) -> None:
    with connected(manager) as other:
        msg_id = front_end.execute("print(input('name? '))", allow_stdin=True)
        assert front_end.prompt(msg_id).content == {"prompt": "name? ", "password": False}
        front_end.client.input("Ada")
        assert front_end.result(msg_id).text() == "Ada\n"
        other.wait(lambda each: each.parent == msg_id and each.is_idle, "the cell at the other")
        at_other = [each for each in other.seen if each.parent == msg_id]
        assert {each.channel for each in at_other} == {"iopub"}
        assert [each.content["text"] for each in at_other if each.msg_type == "stream"] == ["Ada\n"]


def test_comm_buffers_pass_both_ways(front_end: FrontEnd) -> None:
    front_end.run(ECHO)
    front_end.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}})
    sent = bytes(range(256)) * 4096, b""
    msg_id = front_end.send("comm_msg", {"comm_id": "c1", "data": {"n": 1}}, buffers=sent)
    echo = front_end.wait(
        lambda each: each.parent == msg_id and each.msg_type == "comm_msg", "the echo"
    )
    assert echo.content == {"comm_id": "c1", "data": {"n": 1}}
    assert echo.buffers == [buffer[::-1] for buffer in sent]


def test_what_a_stock_client_runs_is_seen_here_and_its_replies_are_not(
    remote: RemoteKernel, front_end: FrontEnd
) -> None:
    server = remote.target.server
    url = f"{server.url.replace('http', 'ws', 1)}/api/kernels/{_kernel_id(front_end)}/channels"
    headers = {"Authorization": f"token {server.token}"}
    content = {"code": "print('theirs')", "silent": False, "allow_stdin": False}
    header = {"msg_id": "theirs-1", "msg_type": "execute_request", "session": "theirs"}
    header |= {"username": "u", "version": "5.4", "date": "2026-01-01T00:00:00Z"}
    with connect(f"{url}?session_id=theirs", additional_headers=headers) as socket:
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
        front_end.wait(lambda each: each.parent == "theirs-1" and each.is_idle, "their cell's end")
        ours = front_end.run("print('ours')")
    theirs = [each for each in front_end.seen if each.parent == "theirs-1"]
    assert [each.content["text"] for each in theirs if each.msg_type == "stream"] == ["theirs\n"]
    assert {each.channel for each in theirs} == {"iopub"}
    assert ours.text() == "ours\n"


def test_a_request_over_the_servers_limit_is_refused_here_and_the_kernel_lives(
    front_end: FrontEnd,
) -> None:
    ran = front_end.run(f"len('{'a' * 12_000_000}')")
    assert ran.reply.content["status"] == "error"
    assert "10485760" in ran.reply.content["evalue"]
    assert front_end.run("print('alive')").text() == "alive\n"


# --- interrupt, restart, shutdown ---------------------------------------------------------------


@pytest.mark.parametrize("is_message", [False, True], ids=["by the manager", "by message"])
def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(
    manager: Any, front_end: FrontEnd, is_message: bool
) -> None:
    front_end.run("kept = 'still here'")
    msg_id = front_end.execute(BUSY)
    front_end.printed(msg_id, "on")
    if is_message:
        assert front_end.ask("interrupt_request", {}, channel="control")["status"] == "ok"
    else:
        manager.interrupt_kernel()
    assert front_end.result(msg_id).reply.content["ename"] == "KeyboardInterrupt"
    assert front_end.run("print(kept)").text() == "still here\n"


@pytest.fixture
def doomed(remote: RemoteKernel) -> Iterator[tuple[Any, FrontEnd]]:
    """A kernel for one test, with its front end: its process will not be the one it has now."""
    with started(remote.name) as manager, connected(manager) as front_end:
        yield manager, front_end


@pytest.mark.parametrize("now", [False, True])
def test_a_restart_answers_the_busy_cell_and_empties_the_namespace(
    doomed: tuple[Any, FrontEnd], now: bool
) -> None:
    manager, front_end = doomed
    kernel_id = _kernel_id(front_end)
    front_end.run("gone = 1")
    msg_id = front_end.execute(BUSY)
    front_end.printed(msg_id, "on")
    manager.restart_kernel(now=now)
    assert front_end.result(msg_id).reply.content["status"] == "error"
    ran = front_end.run("print('gone' in globals())")
    assert ran.text() == "False\n"
    assert ran.of("execute_input")[0]["execution_count"] == 1
    assert _kernel_id(front_end) == kernel_id


def test_a_shutdown_ends_the_remote_kernel(remote: RemoteKernel) -> None:
    with started(remote.name) as manager, connected(manager) as front_end:
        kernel_id = _kernel_id(front_end)
        assert kernel_id in remote.target.server.kernel_ids
    remote.target.wait_until_gone(kernel_id)


# --- what goes wrong ----------------------------------------------------------------------------


def test_what_is_printed_during_a_cut_comes_once_and_in_order_afterwards(
    remote: RemoteKernel, front_end: FrontEnd, tmp_path: Path
) -> None:
    kernel_id, half, oracle = _kernel_id(front_end), 20, LineOracle(40)
    during, end = tmp_path / "during", tmp_path / "end"
    msg_id = front_end.execute(
        "import os, pathlib\n"
        f"for i in range(40):\n"
        f"    while i == {half} and not os.path.exists({str(during)!r}): pass\n"
        "    print(f'#{i}', flush=True)\n"
        f"pathlib.Path({str(end)!r}).touch()"
    )
    front_end.printed(msg_id, f"#{half - 1}\n")
    remote.target.proxy.cut()
    try:
        wait_until(lambda: not _clients(remote, kernel_id), WAIT_S, what="the server sees the cut")
        during.touch()
        wait_until(end.exists, WAIT_S, what="the cell is over")
    finally:
        remote.target.proxy.heal()
    front_end.result(msg_id)
    for each in front_end.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    assert oracle.verdict() == HEALTHY


def test_a_kernel_that_dies_says_so_and_the_front_ends_restart_works(
    doomed: tuple[Any, FrontEnd], tmp_path: Path
) -> None:
    manager, front_end = doomed
    trigger = tmp_path / "now"
    msg_id = front_end.execute(_dies_when(trigger))
    behind = front_end.execute("print('never')")
    front_end.printed(msg_id, "last words")
    trigger.touch()
    ran = front_end.result(msg_id)
    assert ran.reply.content["ename"] == ran.of("error")[0]["ename"] == "KernelDied"
    assert "restarted it" in ran.reply.content["evalue"]
    assert front_end.result(behind).reply.content["ename"] == "KernelDied"
    ran = front_end.run("print('os' in globals())")
    assert ran.text() == "False\n"
    assert "variables" in ran.text("stderr")
    manager.restart_kernel(now=True)
    assert front_end.run("print('restarted')").text() == "restarted\n"


def test_a_kernel_that_dies_during_a_cut_is_noticed_by_its_new_session(
    remote: RemoteKernel, doomed: tuple[Any, FrontEnd], tmp_path: Path
) -> None:
    (_, front_end), proxy = doomed, remote.target.proxy
    kernel_id, trigger = _kernel_id(front_end), tmp_path / "now"
    msg_id = front_end.execute(_dies_when(trigger))
    front_end.printed(msg_id, "last words")
    home = remote.target.home
    before = _processes(home, kernel_id)
    proxy.cut()
    try:
        trigger.touch()
        wait_until(
            lambda: (
                _processes(home, kernel_id) - before and _is_listening(remote.target, kernel_id)
            ),
            WAIT_S,
            what="another process serves the kernel",
        )
    finally:
        proxy.heal()
    assert front_end.result(msg_id).reply.content["ename"] == "KernelDied"
    assert front_end.run("print('os' in globals())").text() == "False\n"


def _dies_when(trigger: Path) -> str:
    return (
        "import os\nprint('last words', flush=True)\n"
        f"while not os.path.exists({str(trigger)!r}): pass\nos._exit(3)"
    )


def _kernel_id(front_end: FrontEnd) -> str:
    """The server's id of the kernel, from the name of its connection file."""
    path = front_end.run("import ipykernel; print(ipykernel.get_connection_file())").text()
    return Path(path.strip()).stem.removeprefix("kernel-")


def _clients(remote: RemoteKernel, kernel_id: str) -> int:
    return int(remote.target.server.call("GET", f"/api/kernels/{kernel_id}")["connections"])


def _processes(home: IsolatedHome, kernel_id: str) -> set[int]:
    """The processes of the kernel itself, by their command line."""
    mark = f"kernel-{kernel_id}.json"
    return {each.pid for each in processes_under(home.directory) if mark in command_line(each)}


def _is_listening(target: PlainTarget, kernel_id: str) -> bool:
    """Whether a process publishes on the socket that the kernel's connection file names."""
    path = target.home.runtime_dir / f"kernel-{kernel_id}.json"
    connection = json.loads(path.read_text())
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(target.server.folder / "{ip}-{iopub_port}".format(**connection)))
        except OSError:
            return False
        return True
