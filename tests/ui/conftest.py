"""One browser, one JupyterLab with the extension and one remote gateway for all tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests import needs
from tests.front_ends.browser.conftest import (  # noqa: F401  (fixtures and hooks of these tests, too)
    browser,
    cleared_desk,
    nothing_is_left_behind,
    program,
    pytest_runtest_makereport,
)
from tests.ui.away import Gates
from tests.ui.local_jupyter import LocalJupyter

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome, isolated_home
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from tests.front_ends.browser.desk import Desk


@pytest.fixture(scope="package")
def home() -> Iterator[IsolatedHome]:
    needs.modules("jupyterlab", "notebook", "ipywidgets", "matplotlib", "playwright")
    needs.program("chromium", "chromium-browser", "google-chrome")
    with isolated_home() as home:
        yield home


@pytest.fixture(scope="package")
def jupyter(home: IsolatedHome) -> Iterator[LocalJupyter]:
    """The user's own server, which a test may kill if it starts it again."""
    _write_settings(home)
    root = home.directory / "w"
    root.mkdir()
    with LocalJupyter(home, root) as jupyter:
        yield jupyter


@pytest.fixture(scope="package")
def desk(home: IsolatedHome, jupyter: LocalJupyter) -> Iterator[Desk]:
    """A user who has logged in to a gateway; instead of the desk of the tests without extension."""
    from tests.front_ends.browser.desk import Desk

    with GatewayProcess(home) as gateway:
        yield Desk(home, log_in(gateway), jupyter.server)


def _write_settings(home: IsolatedHome) -> None:
    """No news and no update checks: they would cover a corner and ask the internet."""
    config = Path(home.variables()["JUPYTER_CONFIG_DIR"])
    folder = config / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    settings = {"checkForUpdates": False, "fetchNews": "false"}
    (folder / "notification.jupyterlab-settings").write_text(json.dumps(settings))


@pytest.fixture
def gates(
    tmp_path: Path,
    cleared_desk: None,  # noqa: F811  (the desk is cleared when the gates are open)
) -> Iterator[Gates]:
    """Opened at the end, so that no kernel waits for ever."""
    gates = Gates(tmp_path)
    yield gates
    for number in (1, 2):
        gates.open(number)
