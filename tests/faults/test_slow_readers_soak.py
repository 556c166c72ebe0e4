"""A reader that is away while a kernel prints a gigabyte: 0 lost up to the cap, one marker."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from tests.faults.slow_readers import PADDING, Growth, host_of, stopped, wide_lines
from tests.integration.stock_front_end import stock_front_end

from clouditia.settings import load_target
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

GATEWAY_MB, HOST_MB = 32, 64
WAIT_S = 600.0
#: 1 GiB and the segment that is being written.
CAP_BYTES = 2**30 + 64 * 2**20
MARKER = re.compile(r"(\d+) messages \((\d+) bytes\)")


class Peak:
    """The most that a process has grown, looked at four times a second."""

    def __init__(self, process: psutil.Process) -> None:
        self.mb = 0.0
        self._growth = Growth(process)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.25):
            self.mb = max(self.mb, self._growth.mb())

    def stop(self) -> float:
        self._is_over.set()
        self._thread.join()
        return self.mb


def journal_bytes(target: LoggedInTarget) -> int:
    return sum(
        each.stat().st_size for each in target.gateway.state_dir.glob("k/*/journal/*.journal")
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mb", [1000, 1500])
def test_a_reader_that_was_away_for_a_gigabyte(
    target: LoggedInTarget, tmp_path: Path, mb: int
) -> None:
    """``clouditia attach``, stopped meanwhile; the journal of a kernel keeps 1 GiB."""
    lab, lines, done = load_target(target.name), mb * 10, tmp_path / "done"
    shown, talk = tmp_path / "shown", tmp_path / "talk"
    go = tmp_path / "go"
    with stock_front_end(lab) as front_end, shown.open("wb") as out, talk.open("wb") as err:
        waiting = f"while not os.path.exists({str(go)!r}): time.sleep(0.1)"
        begin = f"import os, time\nprint('on', flush=True)\n{waiting}\n"
        end = f"\nopen({str(done)!r}, 'w').close()"
        msg_id = front_end.execute(begin + wide_lines(lines, pause_s=0.002) + end)
        front_end.printed(msg_id, "on")
        terminal = subprocess.Popen(
            [sys.executable, "-m", "clouditia.cli", "attach", front_end.kernel_id],
            env=target.gateway.home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        wait_until(lambda: shown.read_bytes() == b"on\n", WAIT_S, what="the terminal is attached")
        gateway = Peak(psutil.Process(target.gateway.pid))
        host = Peak(host_of(target.gateway.state_dir, front_end.kernel_id))
        with stopped(terminal.pid):
            go.touch()
            wait_until(done.exists, WAIT_S, what=f"{mb} MB are printed", interval_s=0.5)
            # The journal is cut to its limit twice a minute.
            wait_until(lambda: journal_bytes(target) < CAP_BYTES, WAIT_S, interval_s=1)
        assert terminal.wait(WAIT_S) == 0
        grown = (gateway.stop(), host.stop())
        size = journal_bytes(target)
        front_end.seen.clear()
    numbers = [int(number) for number in re.findall(rb"^#(\d+)$", shown.read_bytes(), re.M)]
    markers = MARKER.findall(talk.read_text())
    print(
        f"{mb} MB: gateway +{grown[0]:.0f} MB, host +{grown[1]:.0f} MB at most, journal "
        f"{size / 1e6:.0f} MB, {lines - len(numbers)} lines missing, markers {markers}"
    )
    missing = lines - len(numbers)
    assert numbers == list(range(missing, lines))
    if mb * 1e6 < CAP_BYTES:
        assert (missing, markers) == (0, [])
    else:
        ((messages, size_bytes),) = markers
        assert missing > 0
        assert int(messages) >= missing  # the end of a line may be a message of its own
        assert int(size_bytes) >= missing * PADDING
    assert grown[0] <= GATEWAY_MB
    assert grown[1] <= HOST_MB
