"""One notebook that is open in a page; JupyterLab and Notebook 7 show it with the same parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import Locator, Page, expect
from tests.front_ends.browser.desk import WAIT_S

from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from tests.front_ends.browser.desk import Desk

STDOUT = '[data-mime-type="application/vnd.jupyter.stdout"]'
STDERR = '[data-mime-type="application/vnd.jupyter.stderr"]'


class Cell:
    """A code cell and its outputs."""

    def __init__(self, locator: Locator) -> None:
        self.locator = locator
        self.outputs = locator.locator(".jp-OutputArea-output")

    @property
    def stdout(self) -> str:
        """Everything printed, also where other output lies between."""
        return "".join(self.locator.locator(STDOUT).all_text_contents())

    @property
    def stderr(self) -> str:
        return "".join(self.locator.locator(STDERR).all_text_contents())

    def wait_printed(self, text: str) -> None:
        wait_until(lambda: text in self.stdout, WAIT_S, what=f"{text!r} printed", interval_s=0.1)

    def wait_done(self) -> None:
        """Wait until the cell has its number: the reply has come."""
        expect(self.prompt).to_have_text(re.compile(r"\[\d+\]:"))

    @property
    def prompt(self) -> Locator:
        return self.locator.locator(".jp-InputPrompt")


class OpenNotebook:
    """What a user sees of one notebook, and what they can do with it."""

    def __init__(self, page: Page, desk: Desk, path: str) -> None:
        self.page, self.path = page, path
        self._desk = desk
        # JupyterLab keeps the notebooks behind the other tabs in the page, too.
        self._panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.kernel_name = self._panel.locator(".jp-KernelName")
        self.dialog = page.locator(".jp-Dialog")
        self.indicator = self._panel.locator(".jp-Notebook-ExecutionIndicator")

    def wait_idle(self) -> None:
        """Wait until the page is connected to the kernel and shows it as idle.

        The indicator of a new page begins as idle; and a cell that is run before the page has its
        kernel is not run at all.
        """
        wait_until(
            lambda: self._desk.is_connected(self.path),
            WAIT_S,
            what="the page has its kernel",
            interval_s=0.1,
        )
        expect(self.indicator).to_have_attribute("data-status", "idle")

    @property
    def status(self) -> str:
        """Of the kernel, as the toolbar shows it."""
        return str(self.indicator.get_attribute("data-status"))

    def start(self, code: str) -> Cell:
        """Type code into the last cell and run it."""
        cells = self._panel.locator(".jp-CodeCell")
        last = cells.count() - 1
        cells.nth(last).locator(".cm-content").click()
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")
        expect(cells).to_have_count(last + 2)
        return Cell(cells.nth(last))

    def run(self, code: str) -> Cell:
        """Run code to its end."""
        cell = self.start(code)
        cell.wait_done()
        return cell

    def evaluate(self, expression: str) -> str:
        """What the kernel prints for an expression."""
        cell = self.run(f"print({expression})")
        cell.wait_printed("\n")
        return cell.stdout.strip()

    def pid(self) -> int:
        """Process id of the kernel, wherever that is."""
        return int(self.evaluate("__import__('os').getpid()"))

    def press(self, button: str) -> None:
        """A button of the toolbar: ``interrupt``, ``save`` and so on."""
        self._panel.locator(f'[data-jp-item-name="{button}"]').click()

    def choose(self, menu: str, item: str) -> None:
        """An item of the menu bar."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        labels = self.page.locator(".lm-Menu-itemLabel")
        labels.filter(has_text=re.compile(f"^{re.escape(item)}$")).click()

    def accept(self, title: str) -> None:
        """Press the main button of the dialog with this title."""
        expect(self.dialog).to_contain_text(title)
        self.dialog.locator(".jp-mod-accept").click()
        expect(self.dialog.filter(has_text=title)).to_have_count(0)

    def pick_kernel(self, kernel: str) -> None:
        """Click on the kernel's name and choose another in the dialog."""
        self.kernel_name.click()
        expect(self.dialog).to_contain_text("Select Kernel")
        self.dialog.locator("select").select_option(label=kernel)
        self.accept("Select Kernel")
        expect(self.kernel_name).to_have_text(kernel)
        self.wait_idle()
