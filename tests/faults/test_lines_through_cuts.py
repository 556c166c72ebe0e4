"""A cell that prints while its connection is cut again and again, or silent, in each front end.

nbclient, VS Code's way to start kernels, and links with a second client beside them, all at once,
each behind a proxy of its own. JupyterLab in a browser has the same test in front_ends/browser.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from tests.faults.black_holes import DIRECTIONS, NOTICED_S, Silence, fall_silent
from tests.faults.lines_through import Scene, run_scenes
from tests.faults.storms import RESUME_S, TOLD_S, Storm

from clouditia.testing.chaos import HEALTHY, Direction, NumberedLines
from clouditia.testing.gateway_process import GatewayProcess

pytestmark = pytest.mark.faults

WAYS = ("nbclient", "vscode", "links")
#: With all its parts: the display at the end, and the state of a comm.
LINES = NumberedLines(1000, every_s=0.015, display=True, state="comm")
#: For outages of which every second shows.
OUTAGE_EVERY_S = 0.02


class Seen(NamedTuple):
    """What came of everything that this file lets happen at once, because most of it is waiting."""

    scenes: dict[str, Scene]
    silences: dict[bool, Silence]


@pytest.fixture(scope="module")
def seen(module_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """50 random cuts, one of which lasts 5 s; and six links that fall silent."""
    folder = tmp_path_factory.mktemp("storm")
    with ThreadPoolExecutor() as pool:
        silences = {
            is_busy: pool.submit(fall_silent, module_gateway, folder, is_busy=is_busy)
            for is_busy in (False, True)
        }
        scenes = run_scenes(module_gateway, WAYS, LINES, Storm, folder)
        return Seen(scenes, {is_busy: running.result() for is_busy, running in silences.items()})


def assert_nothing_was_lost(scene: Scene) -> None:
    """Exactly once for those who resume; a stock client may see a line again."""
    lines = scene.lines
    for name, client in scene.seen.items():
        if "stock" in name:
            assert client.oracle.lost == 0, name
            assert client.oracle.state, name
            assert client.oracle.idles, name
            print(f"{name}: {client.oracle.duplicated} of {lines.count} came again")
        else:
            assert client.oracle.verdict() == HEALTHY, name
    first, *_ = scene.seen.values()
    assert first.kept == lines.kept


def assert_resumed_in_time(scene: Scene) -> None:
    for name, client in scene.seen.items():
        if client.arrivals:
            took_s = scene.storm.resumed_after_s(client.arrivals)
            print(f"{name}: went on {took_s:.2f} s after the network was back")
            assert took_s <= RESUME_S, name


@pytest.mark.parametrize("way", WAYS)
def test_every_line_comes_once_and_in_order_through_50_cuts(seen: Seen, way: str) -> None:
    assert seen.scenes[way].storm.done == 50
    assert_nothing_was_lost(seen.scenes[way])


@pytest.mark.parametrize("way", WAYS)
def test_output_goes_on_within_2_s_after_an_outage_of_5_s(seen: Seen, way: str) -> None:
    assert_resumed_in_time(seen.scenes[way])


@pytest.mark.parametrize("way", ["nbclient", "vscode"])
def test_a_cell_says_within_3_s_that_its_gateway_cannot_be_reached(seen: Seen, way: str) -> None:
    scene = seen.scenes[way]
    for client in scene.seen.values():
        took_s = scene.storm.told_after_s(client.told)
        print(f"told after {took_s:.2f} s")
        assert took_s <= TOLD_S


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_both_sides_notice_a_silent_network_and_go_on_soon_after_it(
    seen: Seen, is_busy: bool
) -> None:
    silence = seen.silences[is_busy]
    print(f"the gateway noticed after {silence.noticed_by_gateway_s:.1f} s")
    assert silence.noticed_by_gateway_s <= NOTICED_S
    for direction, victim in silence.victims.items():
        print(f"{direction}: noticed {victim.noticed_s:.1f} s, went on {victim.resumed_s:.2f} s")
        assert victim.noticed_s <= NOTICED_S, direction
        assert victim.resumed_s <= RESUME_S, direction


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_line_comes_once_and_in_order_over_a_network_that_was_silent(
    seen: Seen, direction: Direction
) -> None:
    assert seen.silences[True].oracles[direction].verdict() == HEALTHY


@pytest.mark.parametrize("row", ["G18", "G19", "M1"])
def test_row(row: str, seen: Seen) -> None:
    if row == "G18":
        for oracle in seen.silences[True].oracles.values():
            assert oracle.verdict() == HEALTHY
    for scene in seen.scenes.values():
        assert scene.storm.done == 50
        assert_nothing_was_lost(scene)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "storm", [Storm(0, 60.0), Storm(0, 45.0, is_silent=True)], ids=["cut", "silent"]
)
@pytest.mark.parametrize("way", WAYS)
def test_an_outage_of_a_minute_loses_nothing(
    module_gateway: GatewayProcess,
    tmp_path_factory: pytest.TempPathFactory,
    way: str,
    storm: Storm,
) -> None:
    outage(module_gateway, tmp_path_factory, way, storm)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_outage_of_ten_minutes_loses_nothing(
    module_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = NumberedLines(6500, every_s=0.1, display=True, state="comm")
    found = run_scenes(
        module_gateway, WAYS, lines, lambda: Storm(0, 600.0), tmp_path_factory.mktemp("soak")
    )
    for scene in found.values():
        assert_nothing_was_lost(scene)
        assert_resumed_in_time(scene)


def outage(
    gateway: GatewayProcess, folders: pytest.TempPathFactory, way: str, storm: Storm
) -> None:
    count = int((storm.outage_s + 5) / OUTAGE_EVERY_S)
    lines = NumberedLines(count, every_s=OUTAGE_EVERY_S, display=True, state="comm")
    scene = run_scenes(gateway, [way], lines, lambda: storm, folders.mktemp("out"))[way]
    assert_nothing_was_lost(scene)
    assert_resumed_in_time(scene)
