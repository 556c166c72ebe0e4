"""The disk of a gateway is full: clear answers, kernels unharmed, and then all is as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.http import Answer, Client
from tests.faults.small_disk import SmallDisk, small_disk
from tests.integration.stock_front_end import stock_front_end

from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import log_in

pytestmark = [pytest.mark.faults, pytest.mark.root]

LINES = 1500


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 16) as mounted:
        yield mounted


@pytest.fixture
def gateway(clouditia_home: IsolatedHome, disk: SmallDisk) -> Iterator[GatewayProcess]:
    with GatewayProcess(clouditia_home, state_dir=disk.path / "g") as running:
        yield running


def test_a_gateway_on_a_full_disk_says_so_and_its_kernels_run_on(
    gateway: GatewayProcess, disk: SmallDisk
) -> None:
    log_in(gateway)
    target = load_target("lab")
    client = Client(gateway.url, gateway.create_key("ada"))
    with stock_front_end(target) as front_end:
        front_end.run("kept = 'still here'")
        (kernel,) = client("GET", "/api/kernels").json
        msg_id = front_end.execute(LineOracle.code(LINES, every_s=0.002))
        front_end.printed(msg_id, "#50")
        disk.fill()
        new_session = {
            "path": "a.ipynb", "name": "", "type": "notebook", "kernel": {"id": kernel["id"]}
        }  # fmt: skip
        for answer in (
            client("POST", "/api/kernels", {"name": "python3"}),
            client("POST", "/api/sessions", new_session),
        ):
            assert_full(answer)
        assert [each["id"] for each in client("GET", "/api/kernels").json] == [kernel["id"]]
        assert client("GET", f"/api/kernels/{kernel['id']}").status == 200
        assert client("POST", f"/api/kernels/{kernel['id']}/interrupt").status in (204, 200)
        front_end.result(msg_id)
        assert front_end.run("print(kept)").text() == "still here\n"

        # Killed meanwhile it starts all the same: tidying up its database gives it room.
        gateway.restart(kill=True)
        assert front_end.run("print(kept)").text() == "still here\n"
        # Where there is none at all it says so, and has lost nothing.
        gateway.terminate()
        disk.fill()
        with pytest.raises(RuntimeError, match=r"\(0 KiB of its disk's 16384 are free\)"):
            gateway.start()
        assert "Traceback" not in gateway.output
        disk.free()
        gateway.start()
        msg_id = front_end.execute(LineOracle.code(LINES, every_s=0.001))
        front_end.result(msg_id)
        oracle = LineOracle(LINES)
        for each in front_end.seen:
            if each.parent == msg_id:
                oracle.feed(each.message)
        assert oracle.verdict() == HEALTHY
        assert front_end.run("print(kept)").text() == "still here\n"
        assert client("POST", "/api/sessions", new_session).status == 201
        started = client("POST", "/api/kernels", {"name": "python3"})
        assert started.status == 201
        assert client("DELETE", f"/api/kernels/{started.json['id']}").status == 204


def assert_full(answer: Answer) -> None:
    assert answer.status == 507, answer.body
    assert answer.json["code"] == "storage"
    assert answer.json["retryable"] is True
    assert "Free space" in answer.json["hint"]
    assert "/g/" not in answer.json["message"]
