"""What holds for every test: it leaves no thread, child process or file descriptor behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from clouditia.testing.waiting import wait_until

#: Threads that libraries start once and keep for the life of the process.
LIBRARY_THREADS = ("asyncio_", "ThreadPoolExecutor", "pytest_timeout", "TMonitor", "Tmonitor")
LIBRARY_THREAD_CLASSES = ("GarbageCollectorThread", "TMonitor", "HistorySavingThread")
#: Descriptors that a first import or a first ZMQ context may keep for good.
FD_TOLERANCE = 16
SETTLE_S = 5.0


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    threads = set(threading.enumerate())
    children = set(psutil.Process().children(recursive=True))
    fds = _count_fds()
    yield
    _settle(lambda: _new_threads(threads), "threads")
    _settle(lambda: _new_children(children), "child processes")
    _settle(lambda: _new_fds(fds), "file descriptors")


def _settle(leaked: Callable[[], list[str]], what: str) -> None:
    if not leaked():
        return
    gc.collect()
    try:
        wait_until(lambda: not leaked(), SETTLE_S, interval_s=0.05)
    except AssertionError:
        pytest.fail(f"the test left {what} behind: {leaked()}")


def _new_threads(before: set[threading.Thread]) -> list[str]:
    return [
        f"{thread.name} ({type(thread).__name__})"
        for thread in set(threading.enumerate()) - before
        if thread.is_alive()
        and not thread.name.startswith(LIBRARY_THREADS)
        and type(thread).__name__ not in LIBRARY_THREAD_CLASSES
    ]


def _new_children(before: set[psutil.Process]) -> list[str]:
    return [str(child) for child in set(psutil.Process().children(recursive=True)) - before]


def _count_fds() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.is_dir() else 0


def _new_fds(before: int) -> list[str]:
    if _count_fds() <= before + FD_TOLERANCE:
        return []
    return sorted(_link_target(entry) for entry in Path("/proc/self/fd").iterdir())


def _link_target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return "closed"
