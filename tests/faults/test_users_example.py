"""The example of docs/testing.md, and the killer that the page describes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests import needs
from tests.integration.front_end import connected, started

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import Killer, Role
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import command_line
from clouditia.testing.targets import LoggedInTarget

pytestmark = pytest.mark.faults


def test_the_example_of_the_page_passes(gateway: GatewayProcess) -> None:
    page = (needs.ROOT / "docs" / "testing.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    example: Callable[[GatewayProcess], None] = names["test_a_cell_survives_a_lost_connection"]
    example(gateway)


WHO: list[tuple[Role, str]] = [
    ("bridge", "clouditia-kernel"),
    ("host", "clouditia_gateway.host"),
    ("keeper", "clouditia-kernelkeeper"),
    ("kernel", "ipykernel_launcher"),
    ("gateway", "gateway start"),
]


def test_each_process_is_found_by_its_role_and_killed(
    gateway: GatewayProcess, target: LoggedInTarget
) -> None:
    killer = Killer(gateway)
    with pytest.raises(LookupError):
        killer.pid("bridge")
    with started(target.kernel_name()) as manager:
        with connected(manager) as front_end:
            front_end.run("pass")
        rest = GatewayClient(load_target(target.name))
        (kernel,) = rest.list_kernels()
        found = {role: killer.pid(role, kernel["id"]) for role, _ in WHO}
        assert len(set(found.values())) == len(WHO)
        assert found["bridge"] == manager.provisioner.pid
        for role, words in WHO:
            assert words in command_line(psutil.Process(found[role]))
        with pytest.raises(LookupError):
            killer.pid("host", "another")
        assert killer.kill("gateway") == found["gateway"]
        assert not gateway.is_running
        gateway.start()
        assert killer.kill("kernel") == found["kernel"]
        assert not psutil.pid_exists(found["kernel"]) or killer.pid("keeper") == found["keeper"]
