"""How long it takes from the request for a kernel to the first result of a cell."""

from __future__ import annotations

import time

from bench.harness import Gate, Result, interleave, medians, ratios
from bench.world import LOCAL_KERNEL, World
from bench.zmq_client import running_kernel


def measure(world: World, *, rounds: int) -> list[Result]:
    """A remote kernel against a plain local one."""
    start_s(LOCAL_KERNEL)  # both once before, so that no arm pays for cold files
    start_s(world.remote_kernel)
    samples = interleave(
        {"bridge": lambda: start_s(world.remote_kernel), "direct": lambda: start_s(LOCAL_KERNEL)},
        rounds,
    )
    return [
        Result(
            name="start_bridge_vs_direct",
            samples=ratios(samples, "bridge", "direct"),
            unit="ratio",
            gate=Gate(1.4, goal=1.2),
            arms=medians(samples),
        )
    ]


def start_s(kernel_name: str) -> float:
    """Seconds from the start request to the end of the first cell."""
    began = time.perf_counter()
    with running_kernel(kernel_name) as (_, client):
        client.execute("1+1")
        return time.perf_counter() - began
