"""``jupyter-kernel-client``, unchanged, on a Clouditia gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import needs
from tests.front_ends.typed_commands import code_blocks, wait_for_no_kernel

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.targets import LoggedInTarget

SCRIPT = Path(__file__).with_name("kernel_client_script.py")
TIMEOUT_S = 170
# Stopping a client takes up to 10 s: its websocket library sees its own closing only then.
pytestmark = pytest.mark.timeout(300)


def run_python(target: LoggedInTarget, *arguments: str) -> str:
    """Run Python as the target's user; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=target.gateway.home.environment() | {"CK": target.key},
        cwd=target.gateway.home.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def seen(module_target: LoggedInTarget, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the client got back, step by step; it has stopped since."""
    needs.modules("jupyter_kernel_client")
    folder = tmp_path_factory.mktemp("kernel-client")
    return json.loads(
        run_python(module_target, str(SCRIPT), module_target.gateway.url, str(folder))
    )


def test_cells_give_text_results_errors_and_take_answers(seen: dict[str, Any]) -> None:
    text, result = seen["cells"]["result"]
    assert text["text"] == "größer\n"
    assert result["data"]["text/plain"] == "42"
    assert seen["cells"]["error"]["status"] == "error"
    assert seen["cells"]["error"]["outputs"][-1]["ename"] == "ZeroDivisionError"
    assert seen["cells"]["answered"] == ["adA\n"]


def test_variables_are_listed_and_travel_both_ways(seen: dict[str, Any]) -> None:
    assert {"sent", "text"} <= set(seen["variables"]["names"])
    assert seen["variables"]["text"] == "here2.5"
    assert seen["variables"]["sent"] == {"a": [1, 2.5, None]}


def test_an_interrupt_keeps_the_variables_and_a_restart_does_not(seen: dict[str, Any]) -> None:
    assert seen["life"] == {
        "ename": "KeyboardInterrupt",
        "kept": ["here2.5\n"],
        "after_restart": ["False\n"],
    }


def test_a_client_that_joined_by_id_leaves_the_kernel_running(seen: dict[str, Any]) -> None:
    assert seen["joined"] == {"seen": ["seen\n"], "is_alive": True}


def test_with_reconnect_interval_a_cut_costs_no_line(seen: dict[str, Any]) -> None:
    numbers, half = seen["cut"]["numbers"], seen["cut"]["half"]
    # What was on its way at the moment of the cut comes again: nobody can know that it arrived.
    again = numbers[half]
    assert again <= half
    assert numbers == [*range(half), *range(again, 2 * half)]
    assert seen["cut"]["verdict"]["lost"] == 0
    assert seen["cut"]["verdict"]["reply"]


def test_the_docs_lines_run_and_stop_ends_every_kernel_that_a_client_started(
    seen: dict[str, Any], module_target: LoggedInTarget
) -> None:
    (lines,) = code_blocks("stock-clients", "python")
    lines = lines.replace("https://gpu-box:8443", module_target.gateway.url)
    assert run_python(module_target, "-c", lines.replace("ck_…", module_target.key)) == "42\n"
    wait_for_no_kernel(GatewayClient(load_target(module_target.name)))


def test_the_key_in_the_websockets_address_is_not_logged(
    seen: dict[str, Any], module_target: LoggedInTarget
) -> None:
    log = (module_target.gateway.state_dir / "gateway.log").read_text()
    assert "connected, legacy form" in log
    assert module_target.key not in log
