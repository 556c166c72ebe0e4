"""The fault table says what happened, and a short run of it shows Clouditia without a loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests import needs
from tools.faults.faults import FAULTS, Lengths, Outcome
from tools.faults.report import TITLES, page
from tools.faults.stacks import STACKS

HEALTHY = Outcome(
    lost=0, of=10, duplicated=0, in_order=True, reply=True, idle=True, state=True, resumed_s=0.25
)


def rendered(**by_stack: Outcome) -> str:
    return page(
        {"cut": by_stack},
        titles={name: name.title() for name in by_stack},
        versions=dict.fromkeys(by_stack, "1.0"),
        lengths=Lengths(),
        circumstances="Run on a machine.",
    )


def test_every_fault_has_a_title() -> None:
    assert set(TITLES) == set(FAULTS)


def test_a_loss_stands_out_and_says_what_is_missing() -> None:
    text = rendered(good=HEALTHY, bad=Outcome(lost=7, of=10, reply=False, idle=True, state=False))
    assert "| fault | Good | Bad |" in text
    assert "| connection reset for 5 s | 0 of 10 | **7 of 10, no reply, state lost** |" in text
    assert "| Good | 0 of 10 | 0 | yes | yes | yes | yes | - | 0.2 s |  |" in text


def test_what_does_not_apply_is_a_dash_and_what_failed_says_so() -> None:
    text = rendered(none=Outcome(note="has no local server"), hung=Outcome(note="hung for 400 s"))
    assert "| connection reset for 5 s | - | hung for 400 s |" in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_short_run_fills_the_table(tmp_path: Path) -> None:
    needs.folder("build/peers/eg", "make peers")
    output = tmp_path / "table.md"
    subprocess.run(
        [sys.executable, "tools/fault_table.py", "--short", "--output", str(output)],
        cwd=needs.ROOT,
        check=True,
        timeout=1700,
    )
    lines = output.read_text("utf-8").splitlines()
    head = next(line for line in lines if line.startswith("| fault |")).split(" | ")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    summary = [row for row in rows if len(row) == len(STACKS) + 1][1:]
    assert len(summary) == len(FAULTS) + 1  # and the line below the head
    assert "Clouditia" in head[-1]
    for row in summary[1:]:
        assert "**" not in row[-1], row  # nothing of ours stands out
        assert "could not" not in " ".join(row), row
