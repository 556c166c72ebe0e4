"""Finding, killing and counting processes, so that a test can say that none was left behind.

A process belongs to a directory when its command line, working directory or initial environment
names a path inside it. Gateways, kernel hosts and kernels of an isolated home all do, whoever their
parent is by now, so an orphan is found too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from clouditia.testing.waiting import wait_until

_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


def descendants(pid: int) -> list[psutil.Process]:
    """All living children of ``pid`` and theirs; empty when ``pid`` is gone."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if _is_alive(child)]
    except _GONE:
        return []


def processes_under(directory: Path | str) -> list[psutil.Process]:
    """Living processes, other than this one and its parents, that belong to ``directory``."""
    mark = re.compile(re.escape(str(directory)) + r"(?![^/:\s\"',])")
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own and _is_alive(process) and _mentions(process, mark)
    ]


def find_process(directory: Path | str, *words: str) -> psutil.Process:
    """The one process under ``directory`` whose command line contains all ``words``.

    Raises:
        LookupError: There is none, or more than one.
    """
    found = [
        process
        for process in processes_under(directory)
        if all(word in command_line(process) for word in words)
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} processes match {words}: {describe(found)}")
    return found[0]


def kill_9(process: psutil.Process | int, *, timeout_s: float = 5.0) -> None:
    """SIGKILL one process (on Windows: TerminateProcess); it is gone then, or a zombie."""
    pid = process if isinstance(process, int) else process.pid
    try:
        target = psutil.Process(pid)
        target.kill()
    except psutil.NoSuchProcess:
        return
    wait_until(lambda: not _is_alive(target), timeout_s, what=f"process {pid} is gone")


def kill_all_under(directory: Path | str) -> list[str]:
    """SIGKILL every process that belongs to ``directory``; returns what they were."""
    killed: list[str] = []
    while leftovers := processes_under(directory):
        killed.extend(command_line(process) for process in leftovers)
        for process in leftovers:
            kill_9(process)
    return killed


def assert_none_left(directory: Path | str, *, timeout_s: float = 10.0) -> None:
    """Wait for the last process under ``directory`` to end; kill and report what stays.

    Raises:
        AssertionError: Something was still running after ``timeout_s``.
    """
    try:
        wait_until(lambda: not processes_under(directory), timeout_s, interval_s=0.1)
    except AssertionError:
        left = kill_all_under(directory)
        raise AssertionError(
            f"{len(left)} processes were still running {timeout_s:g} s later: {left}"
        ) from None


def command_line(process: psutil.Process) -> str:
    """The command line as one string; empty when the process is gone."""
    try:
        return " ".join(process.cmdline())
    except _GONE:
        return ""


def describe(found: list[psutil.Process]) -> str:
    """Pids and command lines, for messages."""
    return "; ".join(f"{process.pid}: {command_line(process)}" for process in found) or "none"


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except _GONE:
        return False


def _mentions(process: psutil.Process, mark: re.Pattern[str]) -> bool:
    try:
        words = [*process.cmdline(), process.cwd(), *process.environ().values()]
    except _GONE:
        return False
    return any(mark.search(word) for word in words)
