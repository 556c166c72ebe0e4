"""Widgets in a page that did not see them being made: alive, with the state that they have now."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import BrowserContext, Locator, expect
from tests.front_ends.browser.desk import WAIT_S, Desk
from tests.ui.away import Gates
from tests.ui.test_what_comes_back import shown_again

from clouditia.testing.waiting import wait_until

SLIDER = """
import ipywidgets
from IPython.display import display
slider = ipywidgets.IntSlider(value=3, min=0, max=10)
display(slider)
slider.value = 5
"""


def move(cell: Locator) -> None:
    """Drag the slider to its end, as a user does."""
    cell.get_by_role("slider").drag_to(cell.locator(".widget-readout"), steps=5)
    expect(cell.locator(".widget-readout")).to_have_text("10")


def test_a_widget_that_was_made_while_no_page_was_there_is_alive_also_after_a_reload(
    desk: Desk, browser: BrowserContext, gates: Gates
) -> None:
    visit = shown_again(SLIDER, desk, browser, gates)
    cell = visit.cell().locator
    expect(cell.locator(".widget-readout")).to_have_text("5")
    gates.open(2)
    visit.cell().wait_done()
    move(cell)
    assert visit.notebook.evaluate("slider.value") == "10"
    visit.notebook.run("slider.value = 7")
    expect(cell.locator(".widget-readout")).to_have_text("7")
    visit.notebook.press("save")
    wait_until(lambda: "slider.value = 7" in desk.saved_text(visit.path), WAIT_S, what="a save")
    visit.notebook.page.reload()
    expect(visit.cell().locator.locator(".widget-readout")).to_have_text("7")
    visit.notebook.wait_idle()
    move(visit.cell().locator)
    assert visit.notebook.evaluate("slider.value") == "10"
