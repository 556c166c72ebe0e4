"""What one more kernel with its client costs the gateway, over many kernels."""

from __future__ import annotations

from contextlib import ExitStack

import psutil

from bench.harness import Gate, Result
from bench.world import World
from bench.zmq_client import running_kernel

KERNELS = 30


def measure(world: World, *, rounds: int) -> list[Result]:
    """Memory and file descriptors of the gateway; one round, because it is an average already."""
    del rounds
    gateway = psutil.Process(world.gateway.pid)
    with running_kernel(world.remote_kernel) as (_, client):
        client.execute("1+1")  # what the first kernel loads is not a cost of each
    memory_before, fds_before = _rss_mb(gateway), gateway.num_fds()
    with ExitStack() as stack:
        for _ in range(KERNELS):
            _, client = stack.enter_context(running_kernel(world.remote_kernel))
            client.execute("1+1")
        memory_after, fds_after = _rss_mb(gateway), gateway.num_fds()
    return [
        Result(
            name="gateway_memory_per_kernel",
            samples=[(memory_after - memory_before) / KERNELS],
            unit="MB",
            gate=Gate(3),
            arms={"before": memory_before, "after": memory_after},
        ),
        Result(
            name="gateway_fds_per_kernel",
            samples=[(fds_after - fds_before) / KERNELS],
            unit="fds",
            gate=Gate(8),
            arms={"before": fds_before, "after": fds_after},
        ),
    ]


def _rss_mb(process: psutil.Process) -> float:
    """All memory of the process; PSS would sink while kernels that share its libraries come."""
    return float(process.memory_info().rss) / 1e6
