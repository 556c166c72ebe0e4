"""What a user may expect of a notebook after a restart of its kernel."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.front_ends.browser.desk import WAIT_S, remote_kernels
from tests.front_ends.browser.open_notebook import OpenNotebook

from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until


def has_new_kernel(notebook: OpenNotebook, target: LoggedInTarget) -> None:
    """The kernel is a new one, and the page that asked for it can use it."""
    wait_until(
        lambda: remote_kernels(target)[0]["clouditia"]["epoch"] == 2, WAIT_S, what="a restart"
    )
    notebook.wait_idle()
    expect(notebook.dialog).to_have_count(0)
    cell = notebook.run("print('gone' in globals())")
    cell.wait_printed("False\n")
    expect(cell.prompt).to_have_text("[1]:")
    expect(notebook.dialog).to_have_count(0)
