"""How much memory a bridge and a kernel host hold when nothing happens."""

from __future__ import annotations

from bench.harness import Gate, Result, medians
from bench.world import World, pss_mb
from bench.zmq_client import running_kernel

BRIDGE = "bin/clouditia-kernel "
#: The host and the small process between it and its kernel count as one.
HOST = ("clouditia_gateway.host", "clouditia-kernelkeeper")


def measure(world: World, *, rounds: int) -> list[Result]:
    """PSS of both after a first cell; a new kernel for every round."""
    samples: dict[str, list[float]] = {"bridge": [], "host": []}
    for _ in range(rounds):
        with running_kernel(world.remote_kernel) as (_, client):
            client.execute("1+1")
            (bridge,) = world.processes(BRIDGE)
            hosts = [process for word in HOST for process in world.processes(word)]
            samples["bridge"].append(pss_mb(bridge))
            samples["host"].append(sum(pss_mb(host) for host in hosts))
    arms = medians(samples)
    return [
        Result(
            name="idle_bridge_memory",
            samples=samples["bridge"],
            unit="MB",
            gate=Gate(45),
            arms=arms,
        ),
        Result(
            name="idle_host_memory", samples=samples["host"], unit="MB", gate=Gate(40), arms=arms
        ),
    ]
