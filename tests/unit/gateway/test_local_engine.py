from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from clouditia.testing.waiting import wait_until
from clouditia_gateway.engines.base import HostHealth, HostRef, HostSpec
from clouditia_gateway.engines.local import LocalEngine, kill_leftover_kernel
from clouditia_gateway.host import proc
from clouditia_gateway.host.launch import LaunchSpec, end_leftovers

#: Stands in for the kernel host: says its session and environment, then waits.
SLEEP = """
import os, signal
print(os.getsid(0) == os.getpid(), sorted(os.environ), flush=True)
signal.pause()
"""
SLEEPER = ("-c", SLEEP)
#: A host whose first thread ends (``exit``, not ``exit_group``) while another goes on.
HEADLESS = """
import ctypes, platform, signal, threading
threading.Thread(target=signal.sigwait, args=([signal.SIGUSR1],)).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)
"""


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def spec(directory: Path) -> HostSpec:
    return HostSpec("k", 1, directory, {"PATH": os.environ["PATH"], "LANG": "C"})


@pytest.fixture
def group(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A kernel in a process group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True
    ) as process:
        yield process
        process.kill()


def write_host_file(directory: Path, kernel_pid: int, start_time: int) -> None:
    fields = {"kernel_pid": kernel_pid, "kernel_pgid": kernel_pid, "kernel_start_time": start_time}
    (directory / "host.json").write_text(json.dumps({"pid": 1, "start_time": 0, **fields}))


def test_a_host_runs_in_its_own_session_with_only_its_own_environment(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SLEEPER)
        ref = await engine.launch(spec(tmp_path))
        log = tmp_path / "host.log"
        wait_until(lambda: log.read_text().count("\n"), 10)
        assert log.read_text().startswith("True ['LANG', ")
        assert log.stat().st_mode & 0o777 == 0o600
        assert (await engine.status(ref)).health is HostHealth.ALIVE
        await engine.stop(ref)
        assert (await engine.status(ref)).health is HostHealth.DEAD

    run(scenario)


def test_another_gateway_finds_the_host_and_sees_its_death(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = LocalEngine(SLEEPER), LocalEngine(SLEEPER)
        ref = await first.launch(spec(tmp_path))
        pid = json.loads(ref.token)["pid"]
        assert (await second.status(ref)).health is HostHealth.ALIVE
        os.kill(pid, signal.SIGKILL)
        # To the second it is a foreign process that stays a zombie until the first reaps it.
        wait_until(lambda: proc.read_stat(pid).state == "Z", 5)  # type: ignore[union-attr]  # it is there
        assert (await second.status(ref)).health is HostHealth.DEAD
        assert (await first.status(ref)).health is HostHealth.DEAD
        assert proc.read_stat(pid) is None

    run(scenario)


def test_a_reused_pid_is_not_taken_for_the_host_and_not_killed(
    tmp_path: Path, group: subprocess.Popen[bytes]
) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SLEEPER)
        words = {"pid": group.pid, "start_time": proc.start_time(group.pid) - 1}
        ref = HostRef(tmp_path, json.dumps(words))
        assert (await engine.status(ref)).health is HostHealth.DEAD
        await engine.stop(ref)
        assert group.poll() is None

    run(scenario)


def test_without_a_reference_the_hosts_own_file_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SLEEPER)
        nothing = HostRef(tmp_path, "")
        assert (await engine.status(nothing)).reason == "the kernel host never started"
        words = {"pid": os.getpid(), "start_time": proc.start_time(os.getpid())}
        (tmp_path / "host.json").write_text(json.dumps(words))
        assert (await engine.status(nothing)).health is HostHealth.ALIVE

    run(scenario)


def test_what_a_dead_host_left_of_its_kernel_is_killed(
    tmp_path: Path, group: subprocess.Popen[bytes]
) -> None:
    write_host_file(tmp_path, group.pid, proc.start_time(group.pid))
    kill_leftover_kernel(HostRef(tmp_path, ""))
    assert group.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"kernel_pgid": 1, "kernel_pid": 1}'])
def test_a_host_file_that_says_nothing_kills_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "host.json").write_text(content)
    kill_leftover_kernel(HostRef(tmp_path, ""))


def test_a_stranger_with_the_kernels_pid_is_left_alone(
    tmp_path: Path, group: subprocess.Popen[bytes]
) -> None:
    write_host_file(tmp_path, group.pid, proc.start_time(group.pid) - 1)
    kill_leftover_kernel(HostRef(tmp_path, ""))
    assert group.poll() is None


def test_a_host_whose_first_thread_has_ended_is_alive_and_leaves_no_zombie_when_stopped(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        engine = LocalEngine(("-c", HEADLESS))
        ref = await engine.launch(spec(tmp_path))
        pid = json.loads(ref.token)["pid"]
        wait_until(lambda: proc.read_stat(pid).state == "Z", 10)  # type: ignore[union-attr]  # it is there
        assert (await engine.status(ref)).health is HostHealth.ALIVE
        await engine.stop(ref)
        assert proc.read_stat(pid) is None
        assert (await engine.status(ref)).health is HostHealth.DEAD

    run(scenario)


def test_a_copy_of_a_directory_never_ends_the_host_of_the_original(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SLEEPER)
        original, copy = tmp_path / "original", tmp_path / "copy"
        for directory in (original, copy):
            directory.mkdir()
            (directory / "launch.json").write_text("{}")
        ref = await engine.launch(spec(original))
        await engine.stop(HostRef(copy, ref.token))
        assert (await engine.status(ref)).health is HostHealth.ALIVE
        await engine.stop(ref)
        assert (await engine.status(ref)).health is HostHealth.DEAD

    run(scenario)


def test_after_a_restart_of_the_machine_nobody_is_taken_for_the_host_or_its_kernel(
    tmp_path: Path, group: subprocess.Popen[bytes]
) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SLEEPER)
        words = {"pid": group.pid, "start_time": proc.start_time(group.pid), "boot_id": "earlier"}
        kernel = {"kernel_pid": 2**22 + 1, "kernel_pgid": group.pid, "kernel_start_time": 1}
        (tmp_path / "host.json").write_text(json.dumps({**words, **kernel}))
        for ref in (HostRef(tmp_path, json.dumps(words)), HostRef(tmp_path, "")):
            status = await engine.status(ref)
            assert (status.health, status.reason) == (HostHealth.DEAD, "its machine was restarted")
            await engine.stop(ref)
        assert group.poll() is None

    run(scenario)


def test_a_host_on_a_copy_of_a_directory_leaves_the_kernel_of_the_original_alone(
    tmp_path: Path, group: subprocess.Popen[bytes]
) -> None:
    write_host_file(tmp_path, group.pid, proc.start_time(group.pid))
    fields = json.loads((tmp_path / "host.json").read_text())
    fields |= {"pid": os.getpid(), "start_time": proc.start_time(os.getpid())}
    (tmp_path / "host.json").write_text(json.dumps(fields))
    launch = LaunchSpec(**dict.fromkeys(LaunchSpec._fields, tmp_path))  # type: ignore[arg-type]
    end_leftovers(launch)
    assert group.poll() is None
    (tmp_path / "host.json").write_text(json.dumps(fields | {"pid": 1, "start_time": 0}))
    end_leftovers(launch)
    assert group.wait(10) == -signal.SIGKILL
