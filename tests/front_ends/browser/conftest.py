"""One browser, one local Jupyter server and one remote gateway for all tests of this folder."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests import conftest as every_test
from tests import needs

from clouditia.testing.processes import assert_none_left

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
    from tests.front_ends.browser.desk import Desk
    from tests.front_ends.browser.programs import Program

WAIT_MS = 60_000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--process-per-site",  # pages of one server in one process: less to start on a small machine
)
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="package")
def desk() -> Iterator[Desk]:
    """A user who has logged in to a gateway, and their local server."""
    needs.modules("jupyterlab", "notebook", "ipywidgets", "tqdm", "matplotlib", "playwright")
    needs.program("chromium", "chromium-browser", "google-chrome")
    from tests.front_ends.browser.desk import served_desk

    from clouditia.testing.gateway_process import GatewayProcess
    from clouditia.testing.home import isolated_home
    from clouditia.testing.targets import log_in

    with (
        isolated_home() as home,
        GatewayProcess(home) as gateway,
        served_desk(home, log_in(gateway)) as desk,
    ):
        yield desk


@pytest.fixture(scope="package")
def browser(desk: Desk) -> Iterator[BrowserContext]:
    """A browser with a profile of its own; a page stays open while others come and go."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    profile = desk.home.directory / "profile"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=needs.program("chromium", "chromium-browser", "google-chrome"),
            args=FLAGS,
            viewport={"width": 1100, "height": 700},
        )
        context.set_default_timeout(WAIT_MS)
        context.pages[0].goto(desk.url("/api/status"))
        yield context
        context.close()
    assert_none_left(profile)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(browser: BrowserContext) -> Iterator[None]:
    """The check of every test; only the browser may start and end helpers as it likes."""
    threads = set(threading.enumerate())
    children = _children()
    fds = every_test._count_fds()
    yield
    every_test._settle(lambda: every_test._new_threads(threads), "threads")
    every_test._settle(lambda: [str(each) for each in _children() - children], "child processes")
    every_test._settle(lambda: every_test._new_fds(fds), "file descriptors")


def _children() -> set[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return {child for child in children if "chrom" not in _name(child)}


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(params=["lab", "notebook"])
def program(request: pytest.FixtureRequest, desk: Desk, browser: BrowserContext) -> Program:
    """JupyterLab, then Notebook 7."""
    from tests.front_ends.browser.programs import PROGRAMS

    return PROGRAMS[request.param](desk, browser)


@pytest.fixture(autouse=True)
def cleared_desk(
    nothing_is_left_behind: None,
    request: pytest.FixtureRequest,
    desk: Desk,
    browser: BrowserContext,
) -> Iterator[None]:
    """Each test finds an empty desk; a failed one leaves pictures and the log in build/browser."""
    yield
    if request.node.stash.get(_FAILED, False):
        _keep_evidence(request.node.name, desk, browser)
    for page in browser.pages[1:]:
        page.close()
    desk.end_all_kernels()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


def _keep_evidence(test: str, desk: Desk, browser: BrowserContext) -> None:
    folder = needs.ROOT / "build" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", test).strip("-")
    for number, page in enumerate(browser.pages[1:]):
        page.screenshot(path=folder / f"{name}-{number}.png")
    shutil.copy(desk.server_log, folder / f"{name}.log")
