"""Interrupt, restart and crash of a remote kernel, as a front end asks for and sees them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.restarter import KernelRestarter
from tests.integration.front_end import WAIT_S, FrontEnd, connected, started

from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

#: An interrupt is felt at once; seconds are for a busy machine.
INTERRUPT_S = 5.0
BLOCKERS = {
    "a busy loop": "print('on', flush=True)\nwhile True: pass",
    "a sleep": "import time\nprint('on', flush=True)\ntime.sleep(600)",
}


@pytest.fixture(scope="module")
def bash_spec(module_home: IsolatedHome) -> None:
    """Make bash_kernel a kernelspec of the gateway, before a user logs in."""
    directory = module_home.jupyter_data_dir / "kernels" / "bash"
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Bash", "language": "bash", "env": {"PS1": "$"}}
    (directory / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture(scope="module")
def both(bash_spec: None, module_target: LoggedInTarget) -> LoggedInTarget:
    """A target that has a Python and a bash kernel."""
    return module_target


@pytest.fixture(scope="module")
def manager(both: LoggedInTarget) -> Iterator[Any]:
    with started(both.kernel_name()) as running:
        yield running


@pytest.fixture
def front_end(manager: Any) -> Iterator[FrontEnd]:
    with connected(manager) as connection:
        yield connection


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
@pytest.mark.parametrize("is_message", [False, True], ids=["by the manager", "by message"])
def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(
    manager: Any, front_end: FrontEnd, blocker: str, is_message: bool
) -> None:
    front_end.run("kept = 'still here'")
    msg_id = front_end.execute(blocker)
    front_end.printed(msg_id, "on")
    began = time.monotonic()
    if is_message:
        assert front_end.ask("interrupt_request", {}, channel="control")["status"] == "ok"
    else:
        manager.interrupt_kernel()
    ran = front_end.result(msg_id)
    assert time.monotonic() - began < INTERRUPT_S
    assert ran.reply.content["ename"] == "KeyboardInterrupt"
    assert ran.of("error")[0]["ename"] == "KeyboardInterrupt"
    assert front_end.run("print(kept)").text() == "still here\n"


def test_an_interrupt_ends_a_cell_that_waits_for_an_answer(
    manager: Any, front_end: FrontEnd
) -> None:
    msg_id = front_end.execute("input('? ')", allow_stdin=True)
    front_end.prompt(msg_id)
    manager.interrupt_kernel()
    assert front_end.result(msg_id).reply.content["ename"] == "KeyboardInterrupt"
    assert front_end.run("print('usable')").text() == "usable\n"


def test_requests_that_wait_behind_an_interrupted_cell_are_aborted(
    manager: Any, front_end: FrontEnd
) -> None:
    busy = front_end.execute(BLOCKERS["a busy loop"], stop_on_error=True)
    front_end.printed(busy, "on")
    behind = front_end.execute("print('never')")
    manager.interrupt_kernel()
    assert front_end.result(busy).reply.content["ename"] == "KeyboardInterrupt"
    waited = front_end.result(behind)
    assert waited.reply.content["status"] == "aborted"
    assert waited.text() == ""


@pytest.fixture
def doomed(both: LoggedInTarget) -> Iterator[tuple[Any, FrontEnd]]:
    """A kernel for one test, with its front end: its process will not be the one it has now."""
    with started(both.kernel_name()) as manager, connected(manager) as front_end:
        yield manager, front_end


def test_a_restart_empties_the_namespace_under_the_same_connection(
    doomed: tuple[Any, FrontEnd],
) -> None:
    manager, front_end = doomed
    for now in (False, True):
        before = front_end.run("import os; gone = 1; print(os.getpid())").text()
        manager.restart_kernel(now=now)
        ran = front_end.run("import os; print('gone' in globals(), os.getpid())")
        is_kept, after = ran.text().split()
        assert is_kept == "False"
        assert after != before.strip()
        assert ran.of("execute_input")[0]["execution_count"] == 1


def test_a_restart_ends_a_busy_cell_with_an_answer(doomed: tuple[Any, FrontEnd]) -> None:
    manager, front_end = doomed
    msg_id = front_end.execute(BLOCKERS["a busy loop"])
    front_end.printed(msg_id, "on")
    manager.restart_kernel(now=True)
    ran = front_end.result(msg_id)
    assert ran.reply.content["status"] == "error"
    assert "restart" in ran.reply.content["evalue"]
    assert front_end.run("print('fresh')").text() == "fresh\n"


CRASHES = {
    "exit": ("os._exit(3)", "exited with code 3"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
}


@pytest.mark.parametrize(("crash", "cause"), CRASHES.values(), ids=CRASHES)
def test_a_crash_is_answered_with_its_cause_and_the_front_end_restarts(
    doomed: tuple[Any, FrontEnd], tmp_path: Path, crash: str, cause: str
) -> None:
    manager, front_end = doomed
    trigger = tmp_path / "now"
    msg_id = front_end.execute(
        "import os, signal\nprint('last words', flush=True)\n"
        f"while not os.path.exists({str(trigger)!r}): pass\n{crash}"
    )
    behind = front_end.execute("print('never')")
    front_end.printed(msg_id, "last words")
    trigger.touch()
    ran = front_end.result(msg_id)
    assert ran.reply.content["status"] == "error"
    assert ran.reply.content["ename"] == "KernelDied"
    assert cause in ran.reply.content["evalue"]
    assert cause in ran.of("error")[0]["evalue"]
    assert cause in front_end.result(behind).reply.content["evalue"]
    wait_until(lambda: not manager.is_alive(), WAIT_S, what="the manager sees the death")
    KernelRestarter(kernel_manager=manager, random_ports_until_alive=False).poll()
    assert front_end.run("print('last words', 'os' in globals())").text() == "last words False\n"


def test_a_kernel_that_is_not_ipykernel_works_the_same(both: LoggedInTarget) -> None:
    with started(both.kernel_name("bash")) as manager, connected(manager) as front_end:
        info = front_end.ask("kernel_info_request", {})
        assert info["language_info"]["name"] == "bash"
        assert front_end.run("x=remote; echo $x").text() == "remote\n"
        assert front_end.run("echo aside >&2; false").reply.content["status"] == "error"
        complete = front_end.ask("complete_request", {"code": "ech", "cursor_pos": 3})
        assert "echo" in complete["matches"]
        msg_id = front_end.execute("echo on; sleep 600")
        front_end.printed(msg_id, "on")
        manager.interrupt_kernel()
        front_end.result(msg_id)
        manager.restart_kernel()
        assert front_end.run("echo [$x]").text() == "[]\n"
