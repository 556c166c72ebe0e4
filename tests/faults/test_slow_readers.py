"""Clients that stop reading: nobody buffers for them, nothing is lost, others go on."""

from __future__ import annotations

from contextlib import ExitStack

import psutil
import pytest
from tests.faults.slow_readers import Growth, host_of, stopped, wide_lines
from tests.integration.front_end import FrontEnd, connected, started
from tests.integration.stock_front_end import joined_stock_front_end

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle, Verdict
from clouditia.testing.targets import LoggedInTarget

GATEWAY_MB, HOST_MB = 32, 64


@pytest.mark.parametrize("mb", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_reader_that_stops_costs_no_memory_no_line_and_holds_nobody(
    target: LoggedInTarget, mb: int
) -> None:
    """One link client is stopped, one stock client does not read, a third one goes on."""
    lines = mb * 10
    lab = load_target(target.name)
    with ExitStack() as stack:
        manager = stack.enter_context(started(target.kernel_name()))
        front_end = stack.enter_context(connected(manager))
        (kernel,) = GatewayClient(lab).list_kernels()
        idle = stack.enter_context(joined_stock_front_end(lab, kernel["id"]))
        active = stack.enter_context(joined_stock_front_end(lab, kernel["id"]))
        gateway = Growth(psutil.Process(target.gateway.pid))
        host = Growth(host_of(target.gateway.state_dir, kernel["id"]))
        with stopped(manager.provisioner.pid):
            msg_id = active.execute(wide_lines(lines))
            active.reply(msg_id)
            assert verdict_on(active, msg_id, lines) == HEALTHY
            grown = (gateway.mb(), host.mb())
        print(f"{mb} MB: gateway +{grown[0]:.1f} MB, host +{grown[1]:.1f} MB")
        assert grown[0] <= GATEWAY_MB
        assert grown[1] <= HOST_MB
        assert verdict_on(front_end, msg_id, lines) == {**HEALTHY, "reply": False}
        late = verdict_on(idle, msg_id, lines)
        assert late["lost"] == 0
        # The gateway gives up a client that answers no ping for 20 s; what is not known to have
        # arrived by then comes again.
        assert late["duplicated"] == 0 or idle.connects > 1


def verdict_on(front_end: FrontEnd, msg_id: str, lines: int) -> Verdict:
    """Read all of a request that there is for this front end."""
    front_end.wait(lambda each: each.parent == msg_id and each.is_idle, "the idle")
    oracle = LineOracle(lines)
    for each in front_end.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    front_end.seen.clear()
    return oracle.verdict()
