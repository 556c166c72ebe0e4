"""What a page shows of a cell that it did not run: pictures, a notice."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import BrowserContext, expect
from tests.front_ends.browser.desk import LOCAL_KERNEL, WAIT_S, Desk
from tests.front_ends.browser.programs import JupyterLab, Notebook7
from tests.ui.away import SECOND, Complaints, Gates, Visit
from tests.ui.test_cells_go_on import begin, come_back

from clouditia.testing.waiting import wait_until

PLOT = """
import matplotlib.pyplot as plt
%matplotlib inline
figure = plt.figure()
plt.plot([1, 3, 2])
display(figure)
plt.close(figure)
shown = display('first', display_id=True)
shown.update('second')
"""


@pytest.mark.slow
def test_a_plot_and_an_updated_display_come_back(
    desk: Desk, browser: BrowserContext, gates: Gates
) -> None:
    cell = shown_again(PLOT, desk, browser, gates).cell()
    expect(cell.locator.locator("img")).to_be_visible()
    expect(cell.outputs.get_by_text("'second'")).to_be_visible()
    expect(cell.outputs.get_by_text("'first'")).to_have_count(0)


def shown_again(code: str, desk: Desk, browser: BrowserContext, gates: Gates) -> Visit:
    """Run code while no page is there; a new page comes before the cell ends."""
    lab = JupyterLab(desk, browser)
    visit = begin(lab, desk, f"{gates.waiting(1)}\n{code}\n{gates.waiting(2)}")
    visit.leave()
    gates.open(1)
    gates.wait_reached(2)
    return come_back(lab, visit)


@pytest.mark.slow
def test_a_page_that_watches_shows_nothing_twice_when_another_one_comes(
    desk: Desk, browser: BrowserContext, gates: Gates
) -> None:
    visit = begin(JupyterLab(desk, browser), desk, gates.lines)
    gates.open(1)
    visit.wait_lines(SECOND)
    other = come_back(Notebook7(desk, browser), visit)
    other.wait_lines(SECOND)
    gates.open(2)
    other.wait_whole()
    visit.wait_whole()


@pytest.mark.slow
def test_a_cell_whose_kernel_is_gone_keeps_what_was_saved_and_says_so(
    desk: Desk, browser: BrowserContext, gates: Gates
) -> None:
    lab = JupyterLab(desk, browser)
    visit = begin(lab, desk, gates.lines)
    visit.leave()
    desk.end_all_kernels()
    again = come_back(lab, visit)
    text = "its output up to the last save is above"
    wait_until(lambda: text in again.cell().stderr, WAIT_S, what="the notice")
    assert again.cell().stdout.startswith("#0\n")
    expect(again.cell().prompt).to_have_text("[ ]:")
    again.wait_unmarked()


def test_a_local_kernel_is_left_alone_and_no_page_complains(
    desk: Desk, browser: BrowserContext
) -> None:
    complaints = Complaints(browser)
    visit = Visit(desk, JupyterLab(desk, browser).open_new(LOCAL_KERNEL))
    visit.notebook.run("import time; time.sleep(2); print('done')")
    visit.notebook.press("save")
    wait_until(lambda: "done" in desk.saved_text(visit.path), WAIT_S, what="a saved result")
    assert '"msg_id"' not in desk.saved_text(visit.path)
    assert complaints.seen == []
