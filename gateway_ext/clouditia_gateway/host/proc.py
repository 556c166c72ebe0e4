"""What ``/proc`` says about processes: start times and descendants. Linux only."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class ProcessStat(NamedTuple):
    """The fields of ``/proc/PID/stat`` that we use; ``start_time`` counts ticks since boot."""

    state: str
    parent: int
    group: int
    start_time: int
    threads: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs. The first thread may be a zombie before the others end."""
        return self.state in "ZX" and self.threads <= 1


def read_stat(pid: int) -> ProcessStat | None:
    """The process's state, or None when there is no such process."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        raw = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name in parentheses may itself hold spaces and parentheses.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return ProcessStat(
        fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]), int(fields[17])
    )


def boot_id() -> str:
    """A number of this run of the machine; empty where the system does not tell."""
    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def start_time(pid: int) -> int:
    """Start time of ``pid`` in ticks since boot; 0 when there is no such process."""
    stat = read_stat(pid)
    return stat.start_time if stat else 0


def is_alive(pid: int, expected_start_time: int) -> bool:
    """Whether ``pid`` is still the process that started then, and no zombie."""
    stat = read_stat(pid)
    return stat is not None and stat.start_time == expected_start_time and not stat.has_ended


def serves(pid: int, expected_start_time: int, launch_file: str) -> bool:
    """Whether that process is alive and the host that was started with this ``launch.json``.

    In a copy of a state directory everything names the hosts of the original.
    """
    if not is_alive(pid, expected_start_time):
        return False
    try:
        named = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2]
        # The first thread of a host may have ended before the others: then no name is left.
        return not named or Path(os.fsdecode(named)).samefile(launch_file)
    except OSError:
        return True  # it cannot be told; then it is better not taken for dead


def descendants(ancestor: int) -> list[int]:
    """Live processes below ``ancestor``, by parent links; zombies are left out."""
    stats: dict[int, ProcessStat] = {}
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                stat = read_stat(int(entry.name))
                if stat is not None:
                    stats[int(entry.name)] = stat
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found: list[int] = []
    waiting = list(children.get(ancestor, ()))
    while waiting:
        pid = waiting.pop()
        waiting.extend(children.get(pid, ()))
        if not stats[pid].has_ended:
            found.append(pid)
    return found


def kill_group(group: int, signal_number: int = signal.SIGKILL) -> None:
    """Signal a process group that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_number)


def kill(pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Signal a process that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)


def kill_descendants(timeout_s: float, collect: Callable[[], None]) -> list[int]:
    """Kill all processes below this one until none is left; returns those that do not die.

    Args:
        timeout_s: How long to go on with processes in uninterruptible sleep.
        collect: Reaps children that have ended; called after each round.
    """
    deadline = time.monotonic() + timeout_s
    while pids := descendants(os.getpid()):
        if time.monotonic() > deadline:
            return pids
        for pid in pids:
            kill(pid)
        select.select([], [], [], 0.005)  # their end takes the system a moment
        collect()
    collect()
    return []


def set_command_line(text: str) -> None:
    """What ``ps`` shows for this process; no longer than what it shows now."""
    import ctypes

    descriptor = os.open("/proc/self/stat", os.O_RDONLY)
    fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    os.close(descriptor)
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
    if 0 < start < end:
        size = end - start
        ctypes.memmove(start, text.encode()[: size - 1].ljust(size, b"\0"), size)


def become_subreaper() -> None:
    """Orphans among our descendants become our children, whatever session they are in."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the system kill this process when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def offer_memory(score: int) -> None:
    """Let the system end this process, and what it starts, before others when memory runs out."""
    with suppress(OSError):  # a system without such scores
        descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR)
        try:
            present = int(os.read(descriptor, 32))
            os.pwrite(descriptor, str(min(1000, present + score)).encode(), 0)
        finally:
            os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) was refused")
