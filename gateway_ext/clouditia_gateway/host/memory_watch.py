"""Whether a kernel that was killed was killed for memory.

Nothing tells a process's parent who sent SIGKILL. The system counts, though, how many processes of
a control group it has ended for lack of memory. The count is looked at while the kernel lives;
when it is higher at the death, the death is taken for one of those. Where the control group cannot
be read, the count of the whole machine has to do, and the words say so. Linux only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

#: A process that is killed for memory may take seconds to give it back, and is counted at once.
_SAMPLES = 3
#: Version 1 writes "no limit" as a number close to 2^63.
_NO_LIMIT = 2**60
_KEPT_FILES = {"cgroup": ("memory.oom_control", "memory.limit_in_bytes"),
               "cgroup2": ("memory.events", "memory.max")}  # fmt: skip


class MemoryGroup(NamedTuple):
    """Where the system counts for one process: the control group, or the whole machine.

    Attributes:
        counter: File with a line ``oom_kill N``.
        limits: Files with a limit in bytes, of the group and of those that hold it.
    """

    counter: Path
    limits: tuple[Path, ...] = ()


class OutOfMemory(NamedTuple):
    """The system ended a process for memory; ``limit_bytes`` is the group's, None for none."""

    limit_bytes: int | None
    is_of_group: bool

    @property
    def sentence(self) -> str:
        """Why the kernel was killed, as far as can be known."""
        if self.limit_bytes is not None:
            limit = f"its memory limit of {_readable(self.limit_bytes)} was reached"
        elif self.is_of_group:
            limit = "its machine had no memory left"
        else:
            limit = "the machine had no memory left, and the system ended some process for that"
        return f"the kernel ran out of memory: {limit}, and it was killed by SIGKILL"


class MemoryWatch:
    """Looks at the count while a process lives, and once more when it has died.

    Args:
        root: Where ``proc`` is; the paths of control groups are below it, too.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._group: MemoryGroup | None = None
        self._counts: deque[int] = deque(maxlen=_SAMPLES)

    @property
    def is_counting(self) -> bool:
        """Whether the system would say so."""
        return bool(self._counts)

    def look(self, pid: int) -> None:
        """Note the count of the control group that the living process is in."""
        group = group_of(pid, self._root)
        if group != self._group:
            self._group = group
            self._counts.clear()
        if group is not None and (count := _oom_kills(group.counter)) is not None:
            self._counts.append(count)

    def after_sigkill(self) -> OutOfMemory | None:
        """What the count says about a process that was killed just now."""
        group = self._group
        if group is None or not self._counts:
            return None
        count = _oom_kills(group.counter)
        if count is None or count <= self._counts[0]:
            return None
        limits = [limit for path in group.limits if (limit := _limit(path)) is not None]
        return OutOfMemory(min(limits, default=None), is_of_group=bool(group.limits))


def group_of(pid: int, root: Path = Path("/")) -> MemoryGroup | None:
    """Where the system counts for this process; None where it does not say."""
    paths = _group_paths(_read(root / f"proc/{pid}/cgroup"))
    for kind, mount_root, mount_point in _mounts(_read(root / "proc/self/mountinfo")):
        path = paths.get(kind)
        if path is None:
            continue
        counter, limit = _KEPT_FILES[kind]
        directory = _below(root / mount_point.lstrip("/"), mount_root, path)
        if _oom_kills(directory / counter) is None:
            continue
        return MemoryGroup(directory / counter, tuple(_upwards(directory, limit)))
    vmstat = root / "proc/vmstat"
    return None if _oom_kills(vmstat) is None else MemoryGroup(vmstat)


def _group_paths(text: str) -> dict[str, str]:
    """From ``/proc/PID/cgroup``: the path for memory in each version of control groups."""
    paths = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if "memory" in controllers.split(","):
            paths["cgroup"] = path
        elif number == "0":
            paths["cgroup2"] = path
    return paths


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """From ``mountinfo``: version, root and mount point of each hierarchy that counts memory."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            fields = before.split(" ")
            yield kind, fields[3], fields[4]


def _below(mount_point: Path, mount_root: str, path: str) -> Path:
    """The directory of a group; a container may see its own group as the mount's root."""
    try:
        return mount_point / PurePosixPath(path).relative_to(mount_root)
    except ValueError:
        return mount_point


def _upwards(directory: Path, name: str) -> Iterator[Path]:
    while (directory / name).exists():
        yield directory / name
        directory = directory.parent


def _oom_kills(path: Path) -> int | None:
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _limit(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _readable(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
