"""JupyterLab and Notebook 7 as a user meets them: where a notebook is made, opened and closed."""

from __future__ import annotations

import re
from typing import ClassVar, Self

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from tests.front_ends.browser.desk import Desk
from tests.front_ends.browser.open_notebook import OpenNotebook


class Program:
    """What both have in common: a notebook has an address of its own."""

    folder: ClassVar[str]

    def __init__(self, desk: Desk, browser: BrowserContext) -> None:
        self.desk, self.browser = desk, browser

    def open(self, path: str) -> OpenNotebook:
        """Open a notebook in a new page."""
        page = self.browser.new_page()
        page.goto(self.desk.url(f"{self.folder}/{path}", reset=""))
        return OpenNotebook(page, self.desk, path)

    def open_new(self, kernel: str) -> OpenNotebook:
        """Open a new notebook that names this kernelspec, and wait until the kernel is idle."""
        notebook = self.open(self.desk.write_notebook(kernel))
        notebook.wait_idle()
        return notebook

    def close(self, notebook: OpenNotebook) -> None:
        """Close the notebook the way people do."""
        raise NotImplementedError


class JupyterLab(Program):
    folder = "/lab/tree"

    def open_beside(self, notebook: OpenNotebook, path: str) -> OpenNotebook:
        """Open one more notebook in the same page, from the list of files."""
        notebook.page.locator(".jp-DirListing-item", has_text=path).dblclick()
        beside = OpenNotebook(notebook.page, self.desk, path)
        expect(self._tab(beside)).to_have_class(re.compile("lm-mod-current"))
        return beside

    def show(self, notebook: OpenNotebook) -> None:
        """Bring the tab of a notebook to the front."""
        self._tab(notebook).click()
        expect(self._tab(notebook)).to_have_class(re.compile("lm-mod-current"))

    def close(self, notebook: OpenNotebook) -> None:
        tab = self._tab(notebook)
        tab.locator(".lm-TabBar-tabCloseIcon").click()
        expect(tab).to_have_count(0)

    def _tab(self, notebook: OpenNotebook) -> Locator:
        tabs = notebook.page.locator("#jp-main-dock-panel .lm-TabBar-tab")
        return tabs.filter(has_text=notebook.path)


class Notebook7(Program):
    folder = "/notebooks"

    def close(self, notebook: OpenNotebook) -> None:
        notebook.page.close()


PROGRAMS: dict[str, type[Program]] = {"lab": JupyterLab, "notebook": Notebook7}
#: For tests of what both programs do with the same code.
BOTH_IF_THERE_IS_TIME = pytest.mark.parametrize(
    "program", ["lab", pytest.param("notebook", marks=pytest.mark.slow)], indirect=True
)


class Launcher:
    """JupyterLab's launcher."""

    def __init__(self, desk: Desk, browser: BrowserContext) -> None:
        self.desk, self.page = desk, browser.new_page()
        self.page.goto(desk.url("/lab", reset=""))

    def card(self, kernel: str) -> Locator:
        """The card that starts a notebook on this kernel."""
        return self.page.locator(f'.jp-LauncherCard[data-category="Notebook"][title="{kernel}"]')

    def start(self, kernel: str) -> OpenNotebook:
        self.card(kernel).click()
        self.page.wait_for_url(re.compile(r"/tree/.+\.ipynb"))
        return OpenNotebook(self.page, self.desk, _path_in(self.page))


class FileList:
    """The first page of Notebook 7."""

    def __init__(self, desk: Desk, browser: BrowserContext) -> None:
        self.desk, self.page = desk, browser.new_page()
        self.page.goto(desk.url("/tree"))

    def open_new_menu(self) -> Self:
        self.page.get_by_text("New", exact=True).click()
        return self

    def item(self, kernel: str) -> Locator:
        return self.page.get_by_role("menuitem", name=kernel, exact=True)

    def start(self, kernel: str) -> OpenNotebook:
        """Start a notebook from the open menu; it opens in a page of its own."""
        with self.page.expect_popup() as opened:
            self.item(kernel).click()
        opened.value.wait_for_url(re.compile(r"/notebooks/.+\.ipynb"))
        return OpenNotebook(opened.value, self.desk, _path_in(opened.value))


def _path_in(page: Page) -> str:
    return page.url.partition("?")[0].rpartition("/")[2]
