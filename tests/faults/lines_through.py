"""One cell of numbered lines through each front end, while the network breaks under it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
from nbclient import NotebookClient
from tests.faults.bare_link import BareLink, bare_link, remote_kernel
from tests.faults.storms import Storm
from tests.front_ends.node_harness import VsCodeRaw
from tests.integration.stock_front_end import StockFrontEnd, joined_stock_front_end

from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy, LineOracle, NumberedLines
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import LoggedInTarget, log_in


@dataclass
class Seen:
    """What one client got of the cell.

    Attributes:
        oracle: Its judgement.
        arrivals: When lines came.
        told: When the cell said that it waits.
        kept: What the probe printed in the kernel afterwards; empty where nobody asked.
    """

    oracle: LineOracle
    arrivals: list[float]
    kept: str = ""
    told: list[float] = field(default_factory=list)


@dataclass
class Scene:
    """A cell, a storm, and what each client saw.

    Attributes:
        lines: The cell.
        storm: What happened to the connections.
        seen: By client.
    """

    lines: NumberedLines
    storm: Storm
    seen: dict[str, Seen] = field(default_factory=dict)


class _Timed(list[Any]):
    """A list that notes when printed text was appended."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def append(self, item: Any) -> None:
        note_time(self._seen, item.message)
        super().append(item)


def note_time(seen: Seen, message: Any) -> None:
    if message["header"]["msg_type"] == "stream":
        is_line = message["content"]["name"] == "stdout"
        (seen.arrivals if is_line else seen.told).append(time.monotonic())


class _Notebook(NotebookClient):
    """nbclient as it is, and a look at each message of the first cell."""

    def __init__(self, *arguments: Any, seen: Seen, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seen = seen
        self.on_cell_executed = self._executed

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if cell_index == 0:
            note_time(self._seen, msg)
            self._seen.oracle.feed(msg)
        return super().process_message(msg, cell, cell_index)

    def _executed(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        if cell_index == 0:
            self._seen.oracle.feed(execute_reply)


def through_nbclient(target: LoggedInTarget, scene: Scene, run_storm: Callable[[], None]) -> None:
    """A notebook of two cells, executed headless."""
    seen = scene.seen["nbclient"] = Seen(LineOracle(scene.lines), [])
    v4: Any = nbformat.v4
    cells = [v4.new_code_cell(code) for code in (scene.lines.code, scene.lines.probe)]
    notebook = v4.new_notebook(cells=cells)
    run_storm()
    client = _Notebook(notebook, seen=seen, kernel_name=target.kernel_name(), timeout=None)
    asyncio.run(client.async_execute())  # execute() leaves an event loop to the thread
    # What the notebook keeps must be what came.
    kept = LineOracle(scene.lines)
    for output in notebook.cells[0].outputs:
        kept.feed_output(output)
    assert kept.numbers == seen.oracle.numbers
    seen.kept = "".join(output.text for output in notebook.cells[1].outputs)


def through_vs_code(target: LoggedInTarget, scene: Scene, run_storm: Callable[[], None]) -> None:
    """The Node harness that starts kernels as VS Code does."""
    with VsCodeRaw(target.kernel_name(), target.gateway.home) as window:
        notebook = window.open_notebook()
        seen = scene.seen["VS Code"] = Seen(LineOracle(scene.lines), [])
        notebook.inbox = _Timed(seen)
        msg_id = notebook.execute(scene.lines.code)
        run_storm()
        window.wait(lambda: msg_id in notebook.done, "the end of the cell", timeout_s=900)
        notebook.result(msg_id)
        for each in notebook.seen:
            if each.parent == msg_id:
                seen.oracle.feed(each.message)
        seen.kept = notebook.run(scene.lines.probe).text()
        window.close(notebook)


def through_links(target: LoggedInTarget, scene: Scene, run_storm: Callable[[], None]) -> None:
    """Three clients of one kernel behind one broken network: two links, and a stock client."""
    scene.storm.clients = 3
    settings = load_target(target.name)
    with ExitStack() as stack:
        kernel_id = stack.enter_context(remote_kernel(settings))
        first = stack.enter_context(bare_link(settings, kernel_id))
        second = stack.enter_context(bare_link(settings, kernel_id))
        stock = stack.enter_context(joined_stock_front_end(settings, kernel_id))
        msg_id = first.execute(scene.lines.code)
        scene.seen["link"] = Seen(LineOracle(scene.lines), first.arrivals)
        run_storm()
        watch(stock, msg_id)
        for name, link in (("link", first), ("second link", second)):
            link.wait_done(msg_id)
            scene.seen[name] = Seen(link.judge(scene.lines, msg_id), link.arrivals)
            assert link.gaps == []
        scene.seen["link"].kept = first.run(scene.lines.probe)
        oracle = LineOracle(scene.lines)
        for each in stock.seen:
            if each.parent == msg_id:
                oracle.feed(each.message)
        scene.seen["second client, stock"] = Seen(oracle, [])


def watch(stock: StockFrontEnd, msg_id: str) -> None:
    """Read, and connect again after each cut, to the end of somebody else's cell."""
    stock.patience_s = 900.0
    while not any(each.parent == msg_id and each.is_idle for each in stock.seen):
        stock._receive(timeout_ms=500)


WAYS: dict[str, Callable[[LoggedInTarget, Scene, Callable[[], None]], None]] = {
    "nbclient": through_nbclient,
    "vscode": through_vs_code,
    "links": through_links,
}


def run_scene(
    gateway: GatewayProcess, way: str, lines: NumberedLines, storm: Storm, folder: Path
) -> Scene:
    """Run one cell through one front end, behind a proxy of its own, and its storm."""
    over = folder / f"{way}-over"
    scene = Scene(replace(lines, until=str(over)), storm)
    address = urlsplit(gateway.url)
    raging: list[Future[None]] = []
    with (
        ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        url = f"http://{proxy.host}:{proxy.port}"
        target = log_in(gateway, name=f"t-{way}-{folder.name[-8:]}".lower(), user=way, url=url)

        def has_begun() -> bool:
            return any(seen.arrivals for seen in scene.seen.values())

        def run_storm() -> None:
            raging.append(pool.submit(storm.rage, proxy, has_begun, over))

        WAYS[way](target, scene, run_storm)
        raging[0].result()
    return scene


def run_scenes(
    gateway: GatewayProcess,
    ways: Iterable[str],
    lines: NumberedLines,
    make_storm: Callable[[], Storm],
    folder: Path,
) -> dict[str, Scene]:
    """Several at once: most of the time they wait."""
    with ThreadPoolExecutor() as pool:
        running = {
            way: pool.submit(run_scene, gateway, way, lines, make_storm(), folder) for way in ways
        }
        return {way: scene.result() for way, scene in running.items()}


__all__ = ["WAYS", "BareLink", "Scene", "Seen", "run_scene", "run_scenes"]
