"""A Qt console, without a screen, on a remote kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import needs
from tests.front_ends.typed_commands import (
    WAIT_S,
    typed_command,
    user_environment,
    wait_for_no_kernel,
)

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

SCRIPT = Path(__file__).with_name("qtconsole_script.py")
TIMEOUT_S = 150
OFFSCREEN = {"QT_QPA_PLATFORM": "offscreen", "QT_API": "pyqt5"}


@pytest.fixture(scope="module")
def seen(module_target: LoggedInTarget, module_home: IsolatedHome) -> Any:
    """What the window showed, step by step; it was closed since."""
    needs.modules("qtconsole", "PyQt5")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), module_target.kernel_name()],
        env=module_home.environment() | OFFSCREEN,
        cwd=module_home.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_window_shows_text_results_and_tracebacks(seen: dict[str, Any]) -> None:
    assert "größer\nOut[1]: 42\n" in seen["text"]
    assert "----> 1 1 / 0" in seen["error"]
    assert "ZeroDivisionError: division by zero" in seen["error"]


def test_a_plot_is_a_picture_between_the_lines(seen: dict[str, Any]) -> None:
    assert seen["images"] == 1
    assert "Figure size" not in seen["plot"]


def test_the_interrupt_action_ends_the_cell_and_keeps_the_variables(seen: dict[str, Any]) -> None:
    assert "KeyboardInterrupt" in seen["interrupted"]
    assert "kept is 42" in seen["after_interrupt"]


def test_the_restart_action_begins_with_an_empty_namespace(seen: dict[str, Any]) -> None:
    assert "False\n" in seen["after_restart"]


def test_closing_the_window_has_ended_the_remote_kernel(
    seen: dict[str, Any], module_target: LoggedInTarget
) -> None:
    wait_for_no_kernel(GatewayClient(load_target(module_target.name)))


def test_the_docs_command_opens_a_window_on_a_kernel_that_outlives_its_crash(
    module_target: LoggedInTarget, module_home: IsolatedHome
) -> None:
    needs.modules("qtconsole", "PyQt5")
    remote = GatewayClient(load_target(module_target.name))

    def states() -> list[str]:
        return [kernel["execution_state"] for kernel in remote.list_kernels()]

    with subprocess.Popen(
        typed_command("qtconsole", "jupyter qtconsole --kernel"),
        env=user_environment(module_home) | OFFSCREEN,
        cwd=module_home.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as window:
        try:
            wait_until(lambda: states() == ["idle"], WAIT_S, what="a remote kernel is idle")
            assert window.poll() is None
        finally:
            window.kill()
    (kernel,) = remote.list_kernels()
    remote.shutdown(kernel["id"])
    wait_for_no_kernel(remote)
