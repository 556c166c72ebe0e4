"""A page that lost the gateway for a while, and a notebook that was closed and is opened again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from tests.front_ends.browser.desk import WAIT_S, Desk, remote_kernels
from tests.front_ends.browser.programs import BOTH_IF_THERE_IS_TIME, Program
from tests.front_ends.browser.restarts import has_new_kernel

from clouditia.testing.chaos import LineOracle
from clouditia.testing.waiting import wait_until

#: Lasts until after the notice, which comes when the gateway has been away for 2 s.
LINES, EVERY_S = 300, 0.05
#: Longer than a restart is waited for.
PATIENCE_S = 150
LOST = "[clouditia] gateway 'shaky' cannot be reached; the kernel is not affected"
BACK = "[clouditia] gateway 'shaky' is back after"


@pytest.mark.faults
@BOTH_IF_THERE_IS_TIME
def test_a_page_shows_every_line_once_although_the_gateway_was_killed(
    program: Program, desk: Desk
) -> None:
    with desk.another_gateway("shaky") as target:
        notebook = program.open_new(target.kernel_name())
        notebook.run("kept = 'still here'")
        cell = notebook.start(LineOracle.code(LINES, every_s=EVERY_S))
        cell.wait_printed("#20\n")
        target.gateway.kill()
        wait_until(lambda: LOST in cell.stderr, WAIT_S, what="the notice", interval_s=0.1)
        assert notebook.status == "busy"
        target.gateway.start()
        cell.wait_done()
        cell.wait_printed(f"#{LINES - 1}\n")
        numbers = [int(number) for number in re.findall(r"#(\d+)\n", cell.stdout)]
        assert numbers == list(range(LINES))
        assert BACK in cell.stderr
        assert notebook.evaluate("kept") == "still here"
        expect(notebook.dialog).to_have_count(0)


@pytest.mark.faults
@BOTH_IF_THERE_IS_TIME
def test_a_cell_that_is_run_while_the_gateway_is_away_runs_when_it_is_back(
    program: Program, desk: Desk
) -> None:
    with desk.another_gateway("shaky") as target:
        notebook = program.open_new(target.kernel_name())
        target.gateway.kill()
        (log,) = target.gateway.state_dir.glob("k/*/host.log")
        wait_until(lambda: "clients are let go: 1" in log.read_text(), WAIT_S, what="no link left")
        cell = notebook.start("print('ran')")
        expect(cell.prompt).to_have_text("[*]:")
        target.gateway.start()
        cell.wait_printed("ran\n")
        cell.wait_done()
        expect(notebook.dialog).to_have_count(0)


def test_a_closed_notebook_leaves_its_kernel_running_and_finds_it_again(
    program: Program, desk: Desk
) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    notebook.run("kept = 'still here'")
    pid = notebook.pid()
    notebook.press("save")
    wait_until(lambda: "still here" in desk.saved_text(notebook.path), WAIT_S, what="saved")
    (before,) = remote_kernels(desk.lab)
    program.close(notebook)
    wait_until(lambda: not desk.is_connected(notebook.path), WAIT_S, what="no page is connected")

    again = program.open(notebook.path)
    again.wait_idle()
    assert again.evaluate("kept") == "still here"
    assert again.pid() == pid
    (after,) = remote_kernels(desk.lab)
    assert after["id"] == before["id"]


@pytest.mark.faults
@pytest.mark.slow
def test_an_interrupt_while_the_gateway_is_away_ends_the_cell_when_it_is_back(
    program: Program, desk: Desk
) -> None:
    with desk.another_gateway("shaky") as target:
        notebook = program.open_new(target.kernel_name())
        cell = notebook.start("print('running', flush=True)\nwhile True: pass")
        cell.wait_printed("running\n")
        target.gateway.kill()
        notebook.press("interrupt")
        target.gateway.start()
        expect(cell.locator).to_contain_text("KeyboardInterrupt")
        cell.wait_done()


@pytest.mark.faults
@BOTH_IF_THERE_IS_TIME
def test_a_restart_while_the_gateway_is_away_is_done_when_it_is_back(
    program: Program, desk: Desk
) -> None:
    with desk.another_gateway("shaky") as target:
        notebook = program.open_new(target.kernel_name())
        notebook.run("gone = 1")
        target.gateway.kill()
        notebook.press("restart")
        notebook.accept("Restart Kernel?")
        expect(notebook.indicator).to_have_attribute("data-status", "restarting")
        target.gateway.start()
        has_new_kernel(notebook, target)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_page_can_use_its_kernel_again_although_a_restart_waited_for_minutes(
    program: Program, desk: Desk
) -> None:
    with desk.another_gateway("shaky") as target:
        notebook = program.open_new(target.kernel_name())
        notebook.run("gone = 1")
        target.gateway.kill()
        with notebook.page.expect_response(re.compile("/restart"), timeout=PATIENCE_S * 1000):
            notebook.press("restart")
            notebook.accept("Restart Kernel?")
        target.gateway.start()
        has_new_kernel(notebook, target)
