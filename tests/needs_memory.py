"""A real memory limit for tests: a control group of this machine, or a skip that says why not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clouditia.testing.waiting import wait_until

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A control group with a limit; what joins it, and what that starts, shares it."""

    directory: Path

    @property
    def prefix(self) -> list[str]:
        """Makes a command line one that joins the group, then becomes that command."""
        join = f'echo $$ > {self.directory}/cgroup.procs && exec "$@"'
        return ["sh", "-c", join, "sh"]


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Removed at the end, when all that joined it is gone."""
    parent, name = _version()
    directory = parent / f"clouditia-test-{uuid.uuid4().hex[:8]}"
    try:
        directory.mkdir()
        (directory / name).write_text(str(limit_bytes))
        _forbid_swap(directory, limit_bytes)
    except OSError as exc:
        if directory.is_dir():
            directory.rmdir()
        pytest.skip(f"this test needs a control group with a memory limit: {exc}")
    try:
        yield MemoryGroup(directory)
    finally:
        procs = directory / "cgroup.procs"
        wait_until(lambda: not procs.read_text(), 60, what="the control group is empty")
        directory.rmdir()


def _version() -> tuple[Path, str]:
    if (_ROOT / "memory/memory.limit_in_bytes").exists():
        return _ROOT / "memory", "memory.limit_in_bytes"
    controllers = _ROOT / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return _ROOT, "memory.max"
    pytest.skip("this test needs control groups that count memory")


def _forbid_swap(directory: Path, limit_bytes: int) -> None:
    for name, value in (("memory.memsw.limit_in_bytes", limit_bytes), ("memory.swap.max", 0)):
        if (directory / name).exists():
            (directory / name).write_text(str(value))
