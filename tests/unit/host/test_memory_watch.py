"""Whether a death was one for memory, from what a system writes below /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouditia_gateway.host.memory_watch import MemoryWatch, OutOfMemory, group_of

PID = 77
V1 = "31 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "32 1 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw\n"


class Machine:
    """A directory with the files of ``/proc`` and ``/sys`` that count."""

    def __init__(self, root: Path, *, mounts: str, groups: str) -> None:
        self.root = root
        self.write("proc/self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/vda rw\n" + mounts)
        self.write(f"proc/{PID}/cgroup", groups)
        self.watch = MemoryWatch(root)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def count_v1(self, group: str, kills: int, limit: int = 9223372036854771712) -> None:
        self.write(f"sys/fs/cgroup/memory{group}/memory.limit_in_bytes", f"{limit}\n")
        self.write(
            f"sys/fs/cgroup/memory{group}/memory.oom_control",
            f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
        )

    def count_v2(self, group: str, kills: int, limit: str = "max") -> None:
        self.write(f"sys/fs/cgroup{group}/memory.max", f"{limit}\n")
        self.write(f"sys/fs/cgroup{group}/memory.events", f"low 0\noom 9\noom_kill {kills}\n")

    def death(self) -> OutOfMemory | None:
        return self.watch.after_sigkill()


@pytest.fixture
def old(tmp_path: Path) -> Machine:
    return Machine(tmp_path, mounts=V1 + V2, groups="4:cpu,memory:/box/job\n1:cpu:/\n0::/\n")


def test_a_count_that_rose_means_memory_and_the_smallest_limit_counts(old: Machine) -> None:
    old.count_v1("", 1)
    old.count_v1("/box", 1, limit=2**30)
    old.count_v1("/box/job", 3, limit=2**31)
    old.watch.look(PID)
    assert old.death() is None
    old.count_v1("/box/job", 4, limit=2**31)
    assert old.death() == OutOfMemory(2**30, is_of_group=True)


def test_without_a_limit_the_machine_was_full(old: Machine) -> None:
    old.count_v1("/box/job", 0)
    old.watch.look(PID)
    old.count_v1("/box/job", 1)
    assert old.death() == OutOfMemory(None, is_of_group=True)


def test_a_look_between_the_kill_and_the_end_does_not_hide_it(old: Machine) -> None:
    old.count_v1("/box/job", 0)
    old.watch.look(PID)
    old.count_v1("/box/job", 1)
    old.watch.look(PID)  # it takes a while to give gigabytes back
    old.watch.look(PID)
    assert old.death() is not None
    old.watch.look(PID)  # this was somebody else, then
    assert old.death() is None


def test_a_process_that_moves_is_counted_where_it_is(old: Machine) -> None:
    old.count_v1("/box/job", 0)
    old.count_v1("/other", 7)
    old.watch.look(PID)
    old.write(f"proc/{PID}/cgroup", "4:memory:/other\n")
    old.watch.look(PID)
    assert old.death() is None
    old.count_v1("/other", 8)
    assert old.death() is not None


def test_version_2_is_read_too_and_a_container_sees_its_group_at_the_top(tmp_path: Path) -> None:
    machine = Machine(tmp_path, mounts=V2, groups="0::/a.slice\n")
    machine.count_v2("/a.slice", 0, "536870912")
    machine.watch.look(PID)
    machine.count_v2("/a.slice", 1, "536870912")
    assert machine.death() == OutOfMemory(2**29, is_of_group=True)

    inside = "32 1 0:27 /docker/77 /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    boxed = Machine(tmp_path / "boxed", mounts=inside, groups="0::/../elsewhere\n")
    boxed.count_v2("", 5, "100")
    boxed.watch.look(PID)
    boxed.count_v2("", 6, "100")
    assert boxed.death() == OutOfMemory(100, is_of_group=True)


def test_where_no_group_can_be_read_the_machine_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, mounts=V2, groups="0::/\n")
    machine.write("proc/vmstat", "nr_free_pages 9\noom_kill 3\n")
    machine.watch.look(PID)
    assert machine.watch.is_counting
    machine.write("proc/vmstat", "nr_free_pages 9\noom_kill 4\n")
    assert machine.death() == OutOfMemory(None, is_of_group=False)


def test_a_system_that_counts_nothing_is_known_to(tmp_path: Path) -> None:
    machine = Machine(tmp_path, mounts="", groups="")
    machine.watch.look(PID)
    assert machine.death() is None
    assert not machine.watch.is_counting
    assert group_of(PID, tmp_path / "nothing") is None


def test_the_words_name_the_limit() -> None:
    assert "memory limit of 1.5 GiB" in OutOfMemory(3 * 2**29, is_of_group=True).sentence
    assert "memory limit of 1000 bytes" in OutOfMemory(1000, is_of_group=True).sentence
    assert "some process" in OutOfMemory(None, is_of_group=False).sentence
