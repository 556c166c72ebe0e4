"""Rows about kernels whose client, or whose gateway, is gone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.front_end import FrontEnd, connected, started
from tests.integration.stock_front_end import joined_stock_front_end

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.processes import kill_9
from clouditia.testing.targets import log_in
from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.testing.gateway_process import GatewayProcess

WAIT_S = 60.0
LINES, EVERY_S = 300, 0.01


def state_outlives_its_client(gateway: GatewayProcess) -> None:
    """The client is killed, so that it cannot have said anything about its kernel."""
    target = log_in(gateway)
    rest = GatewayClient(load_target(target.name))
    with started(target.kernel_name()) as manager:
        with connected(manager) as first:
            first.run("kept = ['still', 'here']")
            (kernel,) = rest.list_kernels()
            kill_9(manager.provisioner.pid)
        wait_until(lambda: rest.get_kernel(kernel["id"])["connections"] == 0, WAIT_S)
        with joined_stock_front_end(load_target(target.name), kernel["id"]) as second:
            assert second.run("print(*kept)").text() == "still here\n"
        (after,) = rest.list_kernels()
        assert (after["id"], after["clouditia"]["epoch"]) == (kernel["id"], 1)


def a_gateway_killed_in_mid_cell_recovers(gateway: GatewayProcess) -> None:
    target = log_in(gateway)
    rest = GatewayClient(load_target(target.name))
    with started(target.kernel_name()) as manager, connected(manager) as front_end:
        front_end.run("kept = 42")
        (before,) = rest.list_kernels()
        msg_id = front_end.execute(LineOracle.code(LINES, every_s=EVERY_S))
        front_end.printed(msg_id, "#20")
        gateway.restart(kill=True)
        front_end.printed(msg_id, f"#{LINES - 1}")
        front_end.result(msg_id)
        assert lines_of(front_end, msg_id).verdict() == HEALTHY
        assert front_end.run("print(kept)").text() == "42\n"
        (after,) = rest.list_kernels()
        assert (after["id"], after["clouditia"]["epoch"]) == (before["id"], 1)


def lines_of(front_end: FrontEnd, msg_id: str) -> LineOracle:
    oracle = LineOracle(LINES)
    for each in front_end.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    return oracle


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {
    "G17": state_outlives_its_client,
    "M2": a_gateway_killed_in_mid_cell_recovers,
}
