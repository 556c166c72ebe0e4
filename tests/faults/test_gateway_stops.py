"""A gateway is stopped and started again, as for an upgrade: its clients see only a pause."""

from __future__ import annotations

import time

import pytest
from tests.integration.front_end import FrontEnd, connected, started
from tests.integration.stock_front_end import stock_front_end

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import LoggedInTarget

pytestmark = pytest.mark.faults

#: How long a gateway with clients and busy kernels may take to end after SIGTERM.
STOP_S = 10.0
LINES, EVERY_S = 300, 0.01


def test_a_stop_in_mid_cell_takes_under_10_s_and_costs_bridge_and_stock_client_a_reconnect(
    gateway: GatewayProcess, target: LoggedInTarget
) -> None:
    lab = load_target(target.name)
    with (
        started(target.kernel_name()) as manager,
        connected(manager) as bridged,
        stock_front_end(lab) as stock,
    ):
        for front_end in (bridged, stock):
            front_end.run("kept = 'still here'")
        rest = GatewayClient(lab)
        before = {kernel["id"] for kernel in rest.list_kernels()}
        running = [(each, each.execute(LineOracle.code(LINES, every_s=EVERY_S))) for each in
                   (bridged, stock)]  # fmt: skip
        for front_end, msg_id in running:
            front_end.printed(msg_id, "#20")
        began = time.monotonic()
        gateway.terminate()
        assert time.monotonic() - began < STOP_S
        gateway.start()
        for front_end, msg_id in running:
            front_end.result(msg_id)
            front_end.printed(msg_id, f"#{LINES - 1}")
        assert lines_of(bridged, running[0][1]).verdict() == HEALTHY
        assert lines_of(stock, running[1][1]).lost == 0
        for front_end in (bridged, stock):
            assert front_end.run("print(kept)").text() == "still here\n"
        assert stock.connects == 2
        assert manager.is_alive()
        kernels = rest.list_kernels()
        assert {kernel["id"] for kernel in kernels} == before
        assert {kernel["clouditia"]["epoch"] for kernel in kernels} == {1}


def lines_of(front_end: FrontEnd, msg_id: str) -> LineOracle:
    oracle = LineOracle(LINES)
    for each in front_end.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    return oracle
