"""A kernelspec of a running kernel, in the front ends that it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from tests.front_ends.node_harness import VsCodeRaw
from tests.front_ends.pty_terminal import CTRL_D, ENTER
from tests.front_ends.test_console import Console
from tests.integration.front_end import FrontEnd, connected, started

from clouditia.errors import KernelNotFound
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
LINES = 60


@pytest.fixture(scope="module")
def rest(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


@pytest.fixture(scope="module")
def owner(module_target: LoggedInTarget) -> Iterator[FrontEnd]:
    """The front end that started the kernel, and has a variable in it."""
    with started(module_target.kernel_name()) as manager, connected(manager) as front_end:
        front_end.run("kept = 'still here'")
        yield front_end


@pytest.fixture(scope="module")
def kernel_id(owner: FrontEnd, rest: GatewayClient) -> str:
    (kernel,) = rest.list_kernels()
    return str(kernel["id"])


@pytest.fixture(scope="module")
def spec(module_target: LoggedInTarget, kernel_id: str) -> str:
    printed = module_target.gateway.run("--json", "kernelspec", "attach", kernel_id[:8])
    return str(json.loads(printed)["name"])


@contextmanager
def attached(spec: str) -> Iterator[tuple[Any, FrontEnd]]:
    """A started manager of jupyter_client and its client."""
    manager: Any = KernelManager(kernel_name=spec)
    manager.start_kernel()
    try:
        with connected(manager) as guest:
            yield manager, guest
    finally:
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)


def epoch(rest: GatewayClient, kernel_id: str) -> int:
    return int(rest.get_kernel(kernel_id)["clouditia"]["epoch"])


def test_a_notebook_run_headless_finds_the_variables_and_leaves_the_kernel(
    owner: FrontEnd, spec: str, rest: GatewayClient, kernel_id: str
) -> None:
    assert spec == f"clouditia-lab-attach-{kernel_id[:8]}"
    notebook = new_notebook(cells=[new_code_cell("print(kept); added = 1"), new_code_cell("1/0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook, kernel_name=spec, timeout=60).execute()
    assert notebook.cells[0].outputs[0].text == "still here\n"
    assert owner.run("print(kept, added)").text() == "still here 1\n"
    assert [kernel["id"] for kernel in rest.list_kernels()] == [kernel_id]


def test_a_console_shares_the_kernel_and_leaves_without_ending_it(
    owner: FrontEnd, spec: str, module_home: IsolatedHome
) -> None:
    with Console(module_home, "jupyter", "console", "--kernel", spec) as console:
        assert console.run("print(kept)") == "still here"
        console.run("typed = 'in the console'")
        console.wait_for_prompt()
        console.type(CTRL_D)
        console.wait_for("^Do you really want to exit")
        console.type("y" + ENTER)
        assert console.exit_code() == 0
    assert owner.run("print(kept, typed)").text() == "still here in the console\n"


def test_vs_code_hears_the_running_cell_says_why_its_own_waits_and_only_lets_go(
    owner: FrontEnd, spec: str, module_home: IsolatedHome, rest: GatewayClient, kernel_id: str
) -> None:
    oracle, go = LineOracle(LINES), module_home.directory / "go"
    running = owner.execute(
        f"import os, time\nfor i in range({LINES}):\n"
        f"    while i == {LINES // 2} and not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "    print(f'#{i}', flush=True)"
    )
    owner.printed(running, f"#{LINES // 2 - 1}")
    with VsCodeRaw(spec, module_home) as window:
        notebook = window.open_notebook()
        own = notebook.execute("print(kept)")
        notebook.printed(own, f"To see that one: clouditia attach {kernel_id[:8]}\n")
        go.touch()
        assert notebook.result(own).text() == "still here\n"
        for each in notebook.seen:
            if each.parent == running and each.channel == "iopub":
                oracle.feed(each.message)
        # VS Code listens once the kernel is ready; what it is sent before that it drops.
        assert oracle.numbers == list(range(LINES // 2, LINES))
        window.restart(notebook)  # to VS Code the same as closing it: it joins again
        assert notebook.run("print(kept)").text() == "still here\n"
        ended = window.close(notebook)
        assert (ended["exit_code"], ended["stderr"]) == (0, "")
    ran, whole = owner.result(running), LineOracle(LINES)
    for each in (*ran.outputs, ran.reply):
        whole.feed(each.message)
    assert whole.verdict() == HEALTHY
    assert epoch(rest, kernel_id) == 1


@pytest.mark.parametrize("now", [False, True])
def test_shutting_it_down_lets_go_of_a_busy_kernel_and_does_not_interrupt_it(
    owner: FrontEnd, spec: str, module_home: IsolatedHome, now: bool
) -> None:
    go = module_home.directory / f"go-{now}"
    running = owner.execute(
        "import os, time\nprint('on', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    )
    owner.printed(running, "on")
    with attached(spec) as (manager, _):
        manager.shutdown_kernel(now=now)
    assert not list(Path(manager.connection_file).parent.glob(f"{manager.kernel_id}*"))
    go.touch()
    assert owner.result(running).reply.content["status"] == "ok"


def test_the_spec_of_an_ended_kernel_is_marked_refused_and_removed_by_sync(
    module_target: LoggedInTarget, rest: GatewayClient, owner: FrontEnd, spec: str
) -> None:
    gateway = module_target.gateway
    before = {kernel["id"] for kernel in rest.list_kernels()}
    other = str(rest.start_kernel("python3", env={}, path="")["id"])
    gateway.run("kernelspec", "attach", other, "--name", "mine")
    with attached("mine") as (manager, _):
        rest.shutdown(other)
        wait_until(lambda: not manager.is_alive(), WAIT_S, what="the bridge has left")
        with pytest.raises(KernelNotFound):
            manager.restart_kernel()
    assert {kernel["id"] for kernel in rest.list_kernels()} == before  # none in its place
    listed = {
        each["name"]: each for each in json.loads(gateway.run("--json", "kernelspec", "list"))
    }
    assert listed["mine"]["state"] == "its kernel has ended"
    assert listed[spec]["state"] == "ok"
    synced = json.loads(gateway.run("--json", "kernelspec", "sync", "--target", "lab"))
    assert synced["lab"]["removed"] == ["mine"]
    assert Path(listed[spec]["path"]).is_dir()


def test_a_restart_restarts_the_kernel_in_place(
    module_target: LoggedInTarget, rest: GatewayClient
) -> None:
    kernel_id = str(rest.start_kernel("python3", env={}, path="")["id"])
    module_target.gateway.run("kernelspec", "attach", kernel_id, "--name", "again")
    with attached("again") as (manager, guest):
        guest.run("gone = 1")
        manager.restart_kernel()
        assert guest.run("print('gone' in globals())").text() == "False\n"
    assert epoch(rest, kernel_id) == 2
    rest.shutdown(kernel_id)
