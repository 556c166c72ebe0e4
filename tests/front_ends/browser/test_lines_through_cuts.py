"""A cell that prints in JupyterLab while the connection to its gateway is cut again and again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect
from tests.faults.storms import RESUME_S, Storm
from tests.front_ends.browser.desk import Desk
from tests.front_ends.browser.open_notebook import Cell
from tests.front_ends.browser.programs import JupyterLab

from clouditia.testing.chaos import ChaosProxy, LineOracle, NumberedLines
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults

LINES = NumberedLines(1000, every_s=0.015, display=True, state="widget", state_every=50)
#: A page shows what has come at most so much later; more often would cost it time to draw.
LOOK_EVERY_S = 0.1


@contextmanager
def cut_target(desk: Desk) -> Iterator[tuple[LoggedInTarget, ChaosProxy]]:
    """The desk's gateway once more, as a target behind a proxy."""
    address = urlsplit(desk.lab.gateway.url)
    with ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy:
        url = f"http://{proxy.host}:{proxy.port}"
        target = log_in(desk.lab.gateway, name="cut", user=desk.lab.user, url=url)
        yield target, proxy
        desk.end_all_kernels()
        desk.lab.gateway.run("target", "remove", "cut")


def follow(cell: Cell, lines: NumberedLines) -> tuple[list[tuple[float, str]], LineOracle]:
    """Look at the cell until its last line is there; when which text was there."""
    seen: list[tuple[float, str]] = []

    def is_over() -> bool:
        text = cell.stdout
        if not seen or text != seen[-1][1]:
            seen.append((time.monotonic(), text))
        return f"#{lines.count - 1}\n" in text

    wait_until(is_over, 900, what="the last line", interval_s=LOOK_EVERY_S)
    cell.wait_done()
    oracle = LineOracle(lines)
    oracle.feed_text(cell.stdout)
    return seen, oracle


def see_lines_through(desk: Desk, browser: BrowserContext, storm: Storm, folder: Path) -> None:
    """Run the cell under a storm and judge what the page shows."""
    over = folder / "over"
    count = max(LINES.count, int((storm.outage_s + 5) / 0.1) if storm.outage_s > 30 else 0)
    every_s = 0.1 if count > LINES.count else LINES.every_s
    lines = replace(LINES, count=count, every_s=every_s, until=str(over))
    with cut_target(desk) as (target, proxy), ThreadPoolExecutor(1) as pool:
        notebook = JupyterLab(desk, browser).open_new(target.kernel_name())
        cell = notebook.start(lines.code)
        cell.wait_printed("#5\n")
        raging = pool.submit(storm.rage, proxy, lambda: True, over)
        seen, oracle = follow(cell, lines)
        raging.result()
        assert oracle.numbers == list(range(lines.count))
        end = cell.locator.locator("pre", has_text=re.compile(f"^#end {lines.count}"))
        expect(end).to_have_count(1)
        expect(cell.locator.locator("input[type=number]")).to_have_value(str(lines.count))
        expect(notebook.indicator).to_have_attribute("data-status", "idle")
        assert notebook.run(lines.probe).stdout == lines.kept
        took_s = storm.resumed_after_s([at for at, _ in seen])
        print(f"JupyterLab: went on {took_s:.2f} s after the network was back")
        assert took_s <= RESUME_S


@pytest.mark.parametrize("row", ["M1"])
def test_row(row: str, desk: Desk, browser: BrowserContext, tmp_path: Path) -> None:
    """Every line comes once and in order through 50 cuts, one of which lasts 5 s."""
    storm = Storm()
    see_lines_through(desk, browser, storm, tmp_path)
    assert storm.done == 50


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "storm", [Storm(0, 60.0), Storm(0, 45.0, is_silent=True)], ids=["cut", "silent"]
)
def test_an_outage_of_a_minute_loses_nothing(
    desk: Desk, browser: BrowserContext, tmp_path: Path, storm: Storm
) -> None:
    see_lines_through(desk, browser, storm, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_outage_of_ten_minutes_loses_nothing(
    desk: Desk, browser: BrowserContext, tmp_path: Path
) -> None:
    see_lines_through(desk, browser, Storm(0, 600.0), tmp_path)
