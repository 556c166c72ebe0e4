"""Readers that stop, and what the processes that serve them take meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PADDING = 99_990


def wide_lines(count: int, *, pause_s: float = 0.0) -> str:
    """Source of a cell that prints numbered lines, each in a message of nearly 100 kB.

    With a pause the kernel waits after each, so that it does not outrun its host on a busy machine:
    what waits between the two is no matter of readers.
    """
    loop = f"for i in range({count}):\n    print(f'{{pad}}\\n#{{i}}', flush=True)"
    pause = f"; time.sleep({pause_s})" if pause_s else ""
    return f"import time\npad = 'x' * {PADDING}\n{loop}{pause}"


def host_of(state_dir: Path, kernel_id: str) -> psutil.Process:
    """The process that holds the journal of a kernel."""
    for launch in (state_dir / "k").glob("*/launch.json"):
        if json.loads(launch.read_text())["kernel_id"] == kernel_id:
            return psutil.Process(json.loads((launch.parent / "host.json").read_text())["pid"])
    raise LookupError(f"no host of kernel {kernel_id}")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing at all: SIGSTOP, as on a laptop that sleeps."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Growth:
    """How much memory a process has taken since (PSS: its share of what it shares)."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = self._pss()

    def mb(self) -> float:
        return (self._pss() - self._before) / 1e6

    def _pss(self) -> int:
        return int(self._process.memory_full_info().pss)
