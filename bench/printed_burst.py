"""How fast 100,000 printed lines arrive, complete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.harness import Better, Gate, Result, interleave, medians, ratios
from bench.world import LOCAL_KERNEL, World
from bench.zmq_client import running_kernel

if TYPE_CHECKING:
    from bench.zmq_client import CellClient

LINES = 100_000
CODE = f"for i in range({LINES}): print(i)"
CHARACTERS = sum(len(str(i)) + 1 for i in range(LINES))


def measure(world: World, *, rounds: int) -> list[Result]:
    """Lines a second through the bridge against direct ZMQ."""
    with (
        running_kernel(LOCAL_KERNEL) as (_, direct),
        running_kernel(world.remote_kernel) as (_, bridge),
    ):
        for client in (direct, bridge):
            lines_per_s(client)
        samples = interleave(
            {"bridge": lambda: lines_per_s(bridge), "direct": lambda: lines_per_s(direct)}, rounds
        )
    return [
        Result(
            name="burst_rate_bridge_vs_direct",
            samples=ratios(samples, "bridge", "direct"),
            unit="ratio",
            gate=Gate(0.8),
            better=Better.HIGHER,
            arms=medians(samples),
        )
    ]


def lines_per_s(client: CellClient) -> float:
    """Run the burst once; every character must arrive."""
    began = time.perf_counter()
    printed = client.execute(CODE)
    taken = time.perf_counter() - began
    if printed != CHARACTERS:
        raise RuntimeError(f"{printed} of {CHARACTERS} characters arrived")
    return LINES / taken
