"""Run the benchmarks, write ``build/bench.json`` and check the gates.

Exit code 1 says that the worse quartile of at least one benchmark misses its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench import (
    execute_round_trip,
    gateway_per_kernel,
    idle_memory,
    printed_burst,
    start_to_first_result,
)
from bench.world import World, running_world

if TYPE_CHECKING:
    from bench.harness import Result


class Benchmark(Protocol):
    """What a benchmark module offers."""

    def measure(self, world: World, *, rounds: int) -> list[Result]:
        """Take ``rounds`` rounds and say what came out."""


#: Name, module and how many rounds it takes by default.
BENCHMARKS: dict[str, tuple[Benchmark, int]] = {
    "execute": (execute_round_trip, 25),
    "start": (start_to_first_result, 7),
    "burst": (printed_burst, 9),
    "memory": (idle_memory, 3),
    "gateway": (gateway_per_kernel, 1),
}


def main() -> int:
    """Measure what was asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--rounds", type=int, help="rounds of every benchmark")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark is called {unknown[0]}; there are: {', '.join(BENCHMARKS)}")
    results: list[Result] = []
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with running_world() as world:
        for name in options.names or BENCHMARKS:
            module, rounds = BENCHMARKS[name]
            for result in module.measure(world, rounds=options.rounds or rounds):
                results.append(result)
                print(result.sentence(), flush=True)
    write_report(options.output, results)
    return 0 if all(result.is_passed for result in results) else 1


def write_report(path: Path, results: list[Result]) -> None:
    """Write ``{name: {value, unit, better, arms, …}}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {result.name: result.to_json() for result in results}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
