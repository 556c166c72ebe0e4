"""How long a trivial cell takes: through the bridge, directly, and by today's remote hop."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from bench.harness import Gate, Result, interleave, medians, ratios
from bench.stock_servers import PROMPT, STOCK, client_through_gateway_url
from bench.world import LOCAL_KERNEL, World
from bench.zmq_client import running_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

CELLS_A_ROUND = 15
CELLS_OF_STOCK = 3  # each takes ten times as long; reported, not compared with
WARM_UP_CELLS = 30


def measure(world: World, *, rounds: int) -> list[Result]:
    """The p50 of a round, as ratios of the three ways."""
    with (
        running_kernel(LOCAL_KERNEL) as (_, direct),
        running_kernel(world.remote_kernel) as (_, bridge),
        client_through_gateway_url(world.home, PROMPT) as hop,
        client_through_gateway_url(world.home, STOCK) as stock_hop,
    ):
        arms = {
            "bridge": lambda: p50_s(bridge.execute, CELLS_A_ROUND),
            "direct": lambda: p50_s(direct.execute, CELLS_A_ROUND),
            "gateway_url": lambda: p50_s(hop.execute, CELLS_A_ROUND),
            "gateway_url_stock": lambda: p50_s(stock_hop.execute, CELLS_OF_STOCK),
        }
        for execute in (bridge.execute, direct.execute, hop.execute):
            p50_s(execute, WARM_UP_CELLS)
        samples = interleave(arms, rounds)
    seconds = medians(samples)
    return [
        Result(
            name="execute_bridge_vs_direct",
            samples=ratios(samples, "bridge", "direct"),
            unit="ratio",
            gate=Gate(1.45, goal=1.25),
            arms=seconds,
        ),
        Result(
            name="execute_bridge_vs_gateway_url",
            samples=ratios(samples, "bridge", "gateway_url"),
            unit="ratio",
            gate=Gate(0.95, goal=0.80),
            arms=seconds,
        ),
    ]


def p50_s(execute: Callable[[str], object], cells: int) -> float:
    """Median seconds of one cell."""
    taken = []
    for _ in range(cells):
        began = time.perf_counter()
        execute("1+1")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
