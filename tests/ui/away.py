"""A cell that runs on while nobody looks, and what its notebook shows to who comes back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.front_ends.browser.desk import WAIT_S, Desk
from tests.front_ends.browser.open_notebook import Cell, OpenNotebook

from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, WebError

LINES = 60
#: The page sees the lines before the first, nobody those before the second.
FIRST, SECOND = 10, 30


class Gates:
    """What running cells wait for, one after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def waiting(self, number: int) -> str:
        """Code that says that it waits for a gate, and waits."""
        reached, opened = str(self._reached(number)), str(self._opened(number))
        wait = f"while not os.path.exists({opened!r}): time.sleep(0.02)"
        return f"import os, time; open({reached!r}, 'w').close()\n{wait}"

    @property
    def lines(self) -> str:
        """Code that prints the lines, with two gates between."""
        parts = [self.printing(0, FIRST), self.waiting(1), self.printing(FIRST, SECOND)]
        parts += [self.waiting(2), self.printing(SECOND, LINES)]
        return "\n".join(parts)

    @staticmethod
    def printing(start: int, end: int) -> str:
        return f"for i in range({start}, {end}): print(f'#{{i}}', flush=True)"

    def open(self, number: int) -> None:
        self._opened(number).touch()

    def wait_reached(self, number: int) -> None:
        """Wait until the code is there, whoever sees what it has printed."""
        wait_until(self._reached(number).exists, WAIT_S, what=f"gate {number} is reached")

    def _reached(self, number: int) -> Path:
        return self._directory / f"{number}-reached"

    def _opened(self, number: int) -> Path:
        return self._directory / f"{number}-opened"


class Visit:
    """The notebook as one page shows it."""

    def __init__(self, desk: Desk, notebook: OpenNotebook) -> None:
        self.desk, self.notebook = desk, notebook

    @property
    def path(self) -> str:
        return self.notebook.path

    def cell(self, number: int = 0) -> Cell:
        return Cell(self.notebook._panel.locator(".jp-CodeCell").nth(number))

    def wait_lines(self, count: int) -> None:
        """So many lines are shown, each once and in order."""
        wait_until(lambda: self._numbers() == list(range(count)), WAIT_S, what=f"{count} lines")

    def wait_whole(self) -> None:
        """All lines are shown, and the cell has its number."""
        self.cell().wait_done()
        self.wait_lines(LINES)

    def wait_saved(self, *words: str) -> None:
        """Wait until the file has the mark of a running cell, and these words."""
        wait_until(
            lambda: all(each in self._saved() for each in ('"msg_id"', *words)),
            WAIT_S,
            what="a saved mark",
        )

    def wait_unmarked(self) -> None:
        """Save, and see that no mark is left."""
        self.notebook.press("save")
        wait_until(lambda: '"msg_id"' not in self._saved(), WAIT_S, what="a file without a mark")

    def wait_kernel_idle(self) -> None:
        """Wait for the local server's word, which needs no page."""

        def is_idle() -> bool:
            session = self.desk.session_of(self.path)
            return bool(session and session["kernel"]["execution_state"] == "idle")

        wait_until(is_idle, WAIT_S, what="an idle kernel")

    def leave(self) -> None:
        """Close the page without a word."""
        self.notebook.page.close()
        wait_until(
            lambda: not self.desk.is_connected(self.path), WAIT_S, what="no page is connected"
        )

    def _numbers(self) -> list[int]:
        return [int(number) for number in re.findall(r"#(\d+)\n", self.cell().stdout)]

    def _saved(self) -> str:
        return self.desk.saved_text(self.path)


class Complaints:
    """Errors in the consoles of all pages."""

    def __init__(self, browser: BrowserContext) -> None:
        self.seen: list[str] = []
        browser.on("console", self._console)
        browser.on("weberror", self._error)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.seen.append(message.text)

    def _error(self, error: WebError) -> None:
        self.seen.append(str(error.error))
