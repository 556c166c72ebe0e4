"""Leftover processes are found by where they live, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clouditia.testing import processes
from clouditia.testing.home import IsolatedHome, isolated_home
from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREVER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*FOREVER, str(tmp_path / "x")], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_process_is_found_by_its_command_line(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert [found.pid for found in processes.processes_under(tmp_path)] == [sleeper.pid]
    assert processes.find_process(tmp_path, "sys.stdin").pid == sleeper.pid
    assert sleeper.pid in [child.pid for child in processes.descendants(os.getpid())]


def test_a_neighbour_with_a_longer_name_is_somebody_else(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sleeper.pid
    assert processes.processes_under(str(tmp_path)[:-1]) == []


def test_what_is_left_is_killed_and_named(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"1 processes were still running.*stdin"):
        processes.assert_none_left(tmp_path, timeout_s=0.1)
    assert sleeper.wait(5) == -9
    processes.assert_none_left(tmp_path, timeout_s=0.1)


def test_looking_for_a_process_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="0 processes"):
        processes.find_process(tmp_path, "gateway")


def test_waiting_names_the_state_that_did_not_come() -> None:
    with pytest.raises(AssertionError, match="the moon is full; last seen: False"):
        wait_until(lambda: False, 0.05, what="the moon is full")


def test_an_isolated_home_hides_the_real_one_and_restores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUDITIA_API_KEY", "ck_real")
    real_home = os.environ.get("HOME")
    with isolated_home() as home:
        assert os.environ["HOME"] == str(home.directory)
        assert "CLOUDITIA_API_KEY" not in os.environ
        assert len(str(home.directory)) < 20 or sys.platform != "linux"
        assert home.config_dir.is_dir()
    assert os.environ.get("HOME") == real_home
    assert os.environ["CLOUDITIA_API_KEY"] == "ck_real"
    assert not home.directory.exists()


def test_a_child_of_an_isolated_home_belongs_to_it(clouditia_home: IsolatedHome) -> None:
    child = subprocess.Popen(FOREVER, stdin=subprocess.PIPE)
    try:
        assert [found.pid for found in processes.processes_under(clouditia_home.directory)] == [
            child.pid
        ]
    finally:
        child.kill()
        child.communicate()
