"""The engine of this machine: a kernel host is a process in a session of its own.

A host is known by the machine's run, its pid and start time, so a reused pid is never taken for it.
It survives the gateway; as it may or may not be this process's child, a zombie counts as dead and
is reaped. A process whose first thread has ended before the others is still one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from clouditia.errors import LaunchTimeout, SessionError
from clouditia_gateway.engines.base import HostHealth, HostRef, HostSpec, HostStatus
from clouditia_gateway.host import proc

_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class LocalEngine:
    """Runs kernel hosts as processes of this user on this machine."""

    def __init__(self, command: tuple[str, ...] = ("-m", "clouditia_gateway.host")) -> None:
        self._command = (sys.executable, *command)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    async def launch(self, spec: HostSpec) -> HostRef:
        """Start the host with stdin from nowhere and its output in ``host.log``."""
        argv = [*self._command, str(spec.directory / "launch.json")]
        try:
            log = os.open(spec.directory / "host.log", _APPEND, 0o600)
        except OSError as exc:
            raise SessionError(f"the kernel host's log cannot be written: {exc.strerror}") from exc
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  (returns once the program runs)
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=spec.environment,
                cwd=spec.directory,
                start_new_session=True,
            )
        except OSError as exc:
            raise SessionError(f"the kernel host could not be started: {exc.strerror}") from exc
        finally:
            os.close(log)
        self._children[process.pid] = process
        words = {
            "pid": process.pid,
            "start_time": proc.start_time(process.pid),
            "boot_id": proc.boot_id(),
        }
        return HostRef(spec.directory, json.dumps(words))

    async def status(self, ref: HostRef) -> HostStatus:
        """Alive while the recorded process runs; dead when it is gone or a zombie."""
        self._reap()
        words = _json_object(ref.token) or _host_file(ref)
        if not {"pid", "start_time"} <= set(words):
            return HostStatus(HostHealth.DEAD, "the kernel host never started")
        if _is_of_earlier_boot(words):
            return HostStatus(HostHealth.DEAD, "its machine was restarted")
        if proc.is_alive(words["pid"], words["start_time"]):
            return HostStatus(HostHealth.ALIVE)
        return HostStatus(HostHealth.DEAD, "the kernel host died")

    async def stop(self, ref: HostRef) -> None:
        """SIGKILL the host, then the process group of its kernel.

        The host of a directory that ours is a copy of is left alone: it may have dialled in here,
        and then ends when it is asked to, but its directory is another's.
        """
        words = _json_object(ref.token) or _host_file(ref)
        if {"pid", "start_time"} <= set(words) and not _is_of_earlier_boot(words):
            pid, start_time = words["pid"], words["start_time"]
            if proc.serves(pid, start_time, _launch_file(ref)):
                await self._kill(pid, start_time)
            elif proc.is_alive(pid, start_time):
                return
        kill_leftover_kernel(ref)

    async def _kill(self, pid: int, start_time: int) -> None:
        deadline = asyncio.get_running_loop().time() + _STOP_TIMEOUT_S
        while proc.is_alive(pid, start_time):
            proc.kill(pid)
            if asyncio.get_running_loop().time() > deadline:
                raise LaunchTimeout(f"the kernel host {pid} did not die in {_STOP_TIMEOUT_S:g} s")
            self._reap()
            await asyncio.sleep(_POLL_S)
        self._reap()

    def _reap(self) -> None:
        """Collect children that have ended, so that none stays a zombie."""
        for pid, process in list(self._children.items()):
            if process.poll() is not None:
                del self._children[pid]

    def release(self) -> None:
        """Let go of all hosts because the gateway ends; they live on."""
        for process in self._children.values():
            # Popen would warn about a child that outlives it, which is what ours are for.
            process.returncode = process.returncode or 0
        self._children.clear()


def _launch_file(ref: HostRef) -> str:
    return str(Path(ref.directory) / "launch.json")


def kill_leftover_kernel(ref: HostRef) -> None:
    """Kill the process group of a kernel whose host is dead.

    The group's number cannot have been given to others while a member is alive; a leader that
    started at another time is somebody else, and then nothing is done.
    """
    words = _host_file(ref)
    if _is_of_earlier_boot(words):
        return  # whoever has these numbers now is somebody else
    group, leader = words.get("kernel_pgid"), words.get("kernel_pid")
    if not isinstance(group, int) or not isinstance(leader, int) or group <= 1:
        return
    stat = proc.read_stat(leader)
    if stat is not None and stat.start_time != words.get("kernel_start_time"):
        return
    proc.kill_group(group, signal.SIGKILL)


def _is_of_earlier_boot(words: dict[str, Any]) -> bool:
    """Whether the machine was restarted since; False where that is not known."""
    written, present = words.get("boot_id"), proc.boot_id()
    return bool(written and present and written != present)


def _host_file(ref: HostRef) -> dict[str, Any]:
    """``host.json`` as the host wrote it; empty when there is none."""
    try:
        return _json_object((Path(ref.directory) / "host.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
