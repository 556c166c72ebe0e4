"""The benchmark harness judges fairly."""

from __future__ import annotations

import pytest
from bench.harness import Better, Gate, Result, interleave, ratios


def _result(samples: list[float], bound: float, better: Better = Better.LOWER) -> Result:
    return Result(name="x", samples=samples, unit="ratio", gate=Gate(bound), better=better)


def test_arms_take_turns_in_opposite_orders() -> None:
    turns: list[str] = []

    def arm(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    samples = interleave({"a": lambda: arm("a"), "b": lambda: arm("b")}, 2)
    assert turns == ["a", "b", "b", "a"]
    assert samples == {"a": [1, 4], "b": [2, 3]}
    assert ratios(samples, "a", "b") == [0.5, pytest.approx(4 / 3)]


def test_a_good_median_does_not_hide_a_bad_quartile() -> None:
    result = _result([1, 1, 1, 1, 2, 2], bound=1.5)
    assert result.value == 1
    assert result.worse_quartile == 1.75
    assert not result.is_passed
    assert _result([1, 1, 1, 1, 1, 2], bound=1.5).is_passed


def test_where_more_is_better_the_worse_quartile_is_the_lower_one() -> None:
    samples = [0.5, 0.5, 1, 1, 1, 1]
    assert _result(samples, bound=0.8, better=Better.HIGHER).worse_quartile == 0.625
    assert not _result(samples, bound=0.8, better=Better.HIGHER).is_passed


def test_the_report_has_the_documented_fields() -> None:
    entry = _result([1.0, 2.0, 3.0], bound=4).to_json()
    assert {"value", "unit", "better", "arms"} <= set(entry)
    assert (entry["value"], entry["better"], entry["passed"]) == (2.0, "lower", True)
