"""The rows of docs/features.md that need a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext
from tests.front_ends.browser.desk import LOCAL_KERNEL, Desk, runs_on
from tests.front_ends.browser.programs import JupyterLab, Launcher
from tests.front_ends.browser.test_pick_a_kernel import REMOTE, uses_the_gateway


@pytest.mark.parametrize("row", ["G1"])
def test_row(row: str, desk: Desk, browser: BrowserContext) -> None:
    uses_the_gateway(Launcher(desk, browser).start(REMOTE), desk)
    desk.end_all_kernels()
    notebook = JupyterLab(desk, browser).open_new(LOCAL_KERNEL)
    assert not runs_on(desk.lab, notebook.pid())
    notebook.pick_kernel(REMOTE)
    uses_the_gateway(notebook, desk)
