"""What the doctor says of sandboxes was tried, not guessed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from clouditia_gateway.sandbox import probes
from clouditia_gateway.sandbox.findings import findings

LAYERS = ("users", "bubblewrap", "landlock", "cgroup", "rlimits")


def fake_bwrap(folder: Path, script: str) -> None:
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_bubblewrap_it_is_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probes.bubblewrap() == (False, "bwrap is not installed")


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo 'No permissions to create new namespace' >&2; exit 1", "No permissions"),
        ("echo 57", "still saw 57 processes"),
        ("echo 2", "saw 2 processes, its own"),
    ],
)
def test_a_bubblewrap_that_is_there_is_run_and_judged_by_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, seen: str
) -> None:
    fake_bwrap(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    probed = probes.bubblewrap()
    assert probed.holds == ("its own" in seen)
    assert seen in probed.seen


def test_the_real_bubblewrap_of_this_machine_is_run() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("this test needs the program bwrap")
    probed = probes.bubblewrap()
    assert probed.holds or "does not run here" in probed.seen


def test_a_memory_limit_holds_and_no_probe_leaves_a_group_behind() -> None:
    assert probes.rlimits().holds
    probes.cgroup()
    assert not list(Path("/sys/fs/cgroup").glob("*/clouditia-probe-*"))
    assert not list(Path("/sys/fs/cgroup").glob("clouditia-probe-*"))
    assert probes.user_ids().holds is False or os.geteuid() == 0


def test_the_doctor_says_plainly_that_kernels_share_a_user_and_what_follows() -> None:
    if sys.platform != "linux":
        pytest.skip("gateways run on Linux only")
    found = {subject: (status, text, step) for subject, status, text, step in findings()}
    status, text, step = found["sandbox"]
    assert status == "warn"
    assert text.startswith("level 0: kernels run as the gateway's user")
    assert "What holds:" in text
    assert "What does not:" in text
    assert "one gateway" in step
    assert set(found) == {"sandbox", *(f"sandbox, {name}" for name in LAYERS)}
    assert all("not used yet" in text for subject, (_, text, _) in found.items() if "," in subject)
