"""The tests of the state machines notice every fault of the mutant lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("mutants.py")


def test_every_mutant_changes_one_place_of_the_present_source() -> None:
    result = subprocess.run(
        [sys.executable, RUNNER, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "mutants are well-formed" in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mutant_is_caught() -> None:
    result = subprocess.run([sys.executable, RUNNER], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
