"""Enterprise Gateway's own Python client, unchanged, against our gateway."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests import needs
from tests.peers.key_proxy import KeyProxy

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.targets import LoggedInTarget

TIMEOUT_S = 150.0


@pytest.fixture(scope="module")
def seen(module_target: LoggedInTarget) -> dict[str, Any]:
    """What the client saw from start to shutdown."""
    python = needs.folder("build/peers/eg", "make peers") / "bin" / "python"
    script = Path(__file__).with_name("eg_client_session.py")
    folder = str(module_target.gateway.home.directory)
    gateway = urlsplit(module_target.gateway.url)
    assert gateway.hostname is not None
    assert gateway.port is not None
    with KeyProxy(gateway.hostname, gateway.port, module_target.key) as proxy:
        done = subprocess.run(
            # -P: the enterprise_gateway.py beside the script must not hide the real one.
            [str(python), "-P", str(script), f"{proxy.host}:{proxy.port}", "python3", folder],
            env=module_target.gateway.home.environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Unexpected" not in done.stderr, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_results_text_and_rich_output_arrive(seen: dict[str, Any]) -> None:
    assert seen["result"] == ["42", False]
    assert seen["printed"] == ["one\ntwo\n", False]
    assert seen["html"] == ["<IPython.core.display.HTML object>", False]


def test_an_error_is_one(seen: dict[str, Any]) -> None:
    text, has_error = seen["error"]
    assert has_error
    assert text.startswith("ZeroDivisionError:division by zero:")


def test_the_state_is_idle_between_two_cells(seen: dict[str, Any]) -> None:
    assert seen["state"] == "idle"


def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(seen: dict[str, Any]) -> None:
    text, has_error = seen["interrupted"]
    assert has_error
    assert text.startswith("KeyboardInterrupt:")
    assert seen["after interrupt"] == ["43", False]


def test_a_restart_empties_the_namespace(seen: dict[str, Any]) -> None:
    assert seen["restarted"] is True
    text, has_error = seen["after restart"]
    assert has_error
    assert "name 'x' is not defined" in text


def test_the_user_name_in_the_request_is_not_believed(
    seen: dict[str, Any], module_target: LoggedInTarget
) -> None:
    assert seen["user"] == [module_target.user + "\n", False]


def test_the_shutdown_ends_the_kernel(seen: dict[str, Any], module_target: LoggedInTarget) -> None:
    kernels = GatewayClient(load_target(module_target.name)).list_kernels()
    assert seen["kernel_id"] not in [kernel["id"] for kernel in kernels]
