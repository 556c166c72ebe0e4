"""Cells that run on while their page, or the local server, is gone, and are shown again."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from tests.front_ends.browser.desk import Desk
from tests.front_ends.browser.programs import Program
from tests.ui.away import LINES, SECOND, Gates, Visit
from tests.ui.local_jupyter import LocalJupyter

QUESTION = "print('before')\nname = input('name? ')\nprint('hello', name)"


def begin(program: Program, desk: Desk, code: str) -> Visit:
    """Run a cell of a new notebook, and wait until the file says that it runs."""
    visit = Visit(desk, program.open_new(desk.lab.kernel_name()))
    visit.notebook.start(code)
    visit.wait_saved()
    return visit


def come_back(program: Program, visit: Visit) -> Visit:
    return Visit(visit.desk, program.open(visit.path))


def test_a_reloaded_page_goes_on_with_a_running_cell(
    program: Program, desk: Desk, gates: Gates
) -> None:
    visit = begin(program, desk, gates.lines)
    gates.wait_reached(1)
    for _ in range(2):  # the second time in the middle of what the first has brought
        visit.notebook.page.reload()
        gates.open(1)
        visit.wait_lines(SECOND)
        expect(visit.cell().prompt).to_have_text("[*]:")
    gates.open(2)
    visit.wait_whole()
    expect(visit.cell().prompt).to_have_text("[1]:")
    assert visit.cell().stderr == ""
    visit.wait_unmarked()


def test_a_cell_that_ended_while_nobody_was_there_shows_all_of_its_output(
    program: Program, desk: Desk, gates: Gates
) -> None:
    visit = begin(program, desk, gates.lines)
    visit.leave()
    gates.open(1)
    gates.open(2)
    visit.wait_kernel_idle()
    again = come_back(program, visit)
    again.wait_whole()
    expect(again.cell().prompt).to_have_text("[1]:")
    again.wait_unmarked()


@pytest.mark.slow
@pytest.mark.faults
def test_a_cell_goes_on_although_the_local_server_was_killed(
    program: Program, desk: Desk, gates: Gates
) -> None:
    with LocalJupyter(desk.home, desk.notebooks) as jupyter:
        own_desk = replace(desk, server=jupyter.server)
        own_program = type(program)(own_desk, program.browser)
        visit = begin(own_program, own_desk, gates.lines)
        visit.notebook.page.close()
        jupyter.kill()
        gates.open(1)
        gates.wait_reached(2)
        jupyter.start()
        again = come_back(own_program, visit)
        again.wait_lines(SECOND)
        gates.open(2)
        again.wait_whole()
        again.notebook.wait_idle()
        assert again.notebook.evaluate("i") == str(LINES - 1)
        again.notebook.page.close()
        own_desk.end_all_kernels()


def test_a_question_that_was_asked_before_is_answered_in_the_new_page(
    program: Program, desk: Desk
) -> None:
    visit = begin(program, desk, QUESTION)
    visit.notebook.page.reload()
    cell = visit.cell()
    expect(cell.locator.locator(".jp-Stdin-prompt")).to_have_text("name? ")
    expect(cell.locator.locator(".jp-Stdin-input")).to_have_count(1)
    cell.locator.locator(".jp-Stdin-input").fill("Ada")
    cell.locator.locator(".jp-Stdin-input").press("Enter")
    cell.wait_printed("hello Ada\n")
    cell.wait_done()
    assert cell.stdout == "before\nname?  Ada\nhello Ada\n"


@pytest.mark.slow
def test_a_question_that_is_asked_while_nobody_is_there_waits_for_an_answer(
    program: Program, desk: Desk, gates: Gates
) -> None:
    visit = begin(program, desk, f"{gates.waiting(1)}\n{QUESTION}")
    visit.leave()
    gates.open(1)
    again = come_back(program, visit)
    answer = again.cell().locator.locator(".jp-Stdin-input")
    answer.fill("Ada")
    answer.press("Enter")
    again.cell().wait_printed("hello Ada\n")
    again.cell().wait_done()


@pytest.mark.slow
def test_cells_that_waited_for_their_turn_run_and_are_shown(
    program: Program, desk: Desk, gates: Gates
) -> None:
    visit = Visit(desk, program.open_new(desk.lab.kernel_name()))
    visit.notebook.start(gates.lines)
    visit.notebook.start("print('second')\n'a result'")
    visit.notebook.start("1 / 0")
    visit.notebook.start("print('never')")
    visit.wait_saved("never")
    visit.notebook.page.reload()
    gates.open(1)
    visit.wait_lines(SECOND)
    for number in range(4):
        expect(visit.cell(number).prompt).to_have_text("[*]:")
    gates.open(2)
    visit.wait_whole()
    visit.cell(1).wait_done()
    assert visit.cell(1).outputs.all_text_contents() == ["second\n", "'a result'"]
    expect(visit.cell(2).prompt).to_have_text("[3]:")
    expect(visit.cell(2).locator).to_contain_text("ZeroDivisionError")
    expect(visit.cell(3).prompt).to_have_text("[ ]:")  # not run, after an error
    assert visit.cell(3).stdout == ""
    visit.wait_unmarked()
