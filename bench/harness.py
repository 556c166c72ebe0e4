"""Samples, ratios and gates.

A shared machine is fast and slow by turns, so absolute times mean little. The arms of a comparison
take turns within each round, every round gives one ratio, and the gate looks at the worse quartile
of the rounds: three rounds of four are at least this good.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Better(Enum):
    """Which way is good."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True)
class Gate:
    """The bound that the worse quartile must keep, and the goal that the median should reach."""

    bound: float
    goal: float | None = None


@dataclass(frozen=True)
class Result:
    """One measured promise."""

    name: str
    samples: Sequence[float]
    unit: str
    gate: Gate
    better: Better = Better.LOWER
    arms: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.samples)

    @property
    def worse_quartile(self) -> float:
        """The bound that three of four rounds keep."""
        if len(self.samples) == 1:
            return self.samples[0]
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return upper if self.better is Better.LOWER else lower

    @property
    def is_passed(self) -> bool:
        """Whether the worse quartile keeps the bound."""
        if self.better is Better.LOWER:
            return self.worse_quartile <= self.gate.bound
        return self.worse_quartile >= self.gate.bound

    def to_json(self) -> dict[str, Any]:
        """The entry of ``bench.json``."""
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "better": self.better.value,
            "arms": {name: round(value, 6) for name, value in self.arms.items()},
            "worse_quartile": round(self.worse_quartile, 4),
            "rounds": len(self.samples),
            "gate": self.gate.bound,
            "goal": self.gate.goal,
            "passed": self.is_passed,
        }

    def sentence(self) -> str:
        """One line for the terminal."""
        sign = "<=" if self.better is Better.LOWER else ">="
        goal = "" if self.gate.goal is None else f", goal {self.gate.goal:g}"
        verdict = "ok  " if self.is_passed else "FAIL"
        return (
            f"{verdict} {self.name:<36} {self.value:8.2f} {self.unit:<5} worse quartile "
            f"{self.worse_quartile:.2f} (must be {sign} {self.gate.bound:g}{goal})"
        )


def interleave(arms: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Sample every arm once a round, each round in the opposite order of the one before."""
    samples: dict[str, list[float]] = {name: [] for name in arms}
    order = list(arms)
    for _ in range(rounds):
        for name in order:
            samples[name].append(arms[name]())
        order.reverse()
    return samples


def ratios(samples: Mapping[str, Sequence[float]], over: str, under: str) -> list[float]:
    """Round by round, the sample of one arm divided by that of another."""
    return [a / b for a, b in zip(samples[over], samples[under], strict=True)]


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each arm, for the report."""
    return {name: statistics.median(values) for name, values in samples.items()}
