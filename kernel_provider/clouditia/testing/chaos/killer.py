"""``kill -9`` of one process of a gateway, by its role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import command_line, describe, kill_9, processes_under

Role = Literal["gateway", "host", "keeper", "kernel", "bridge"]
ROLES: tuple[Role, ...] = get_args(Role)


class Killer:
    """Finds and kills the processes of one gateway and of its user.

    Args:
        gateway: The gateway; its home is the user's whose bridges are looked for.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway

    def pid(self, role: Role, kernel_id: str = "") -> int:
        """Process id of whoever plays a role now.

        Args:
            role: ``gateway``; ``host``, ``keeper`` or ``kernel`` of a kernel; ``bridge``, the
                local process to which a front end talks.
            kernel_id: Which kernel, where there is more than one. Does not choose a bridge.

        Raises:
            LookupError: There is none, or more than one.
        """
        if role == "gateway":
            return self._gateway.pid
        if role == "bridge":
            return _only(list(self._bridges()), "bridges").pid
        folder = self._folder(kernel_id)
        if role == "keeper":
            running = processes_under(self._gateway.state_dir)
            named = [p for p in running if _is_keeper_of(p, folder)]
            return _only(named, f"keepers of {folder.name}").pid
        host = json.loads((folder / "host.json").read_text())
        return int(host["pid" if role == "host" else "kernel_pid"])

    def kill(self, role: Role, kernel_id: str = "") -> int:
        """SIGKILL; it is gone when this returns. Returns its process id."""
        pid = self.pid(role, kernel_id)
        if role == "gateway":
            self._gateway.kill()  # also waits for its output, so that it can be started again
        else:
            kill_9(pid)
        return pid

    def _folder(self, kernel_id: str) -> Path:
        folders = sorted(
            path.parent for path in (self._gateway.state_dir / "k").glob("*/host.json")
        )
        if kernel_id:
            folders = [each for each in folders if _launch(each).get("kernel_id") == kernel_id]
        if len(folders) != 1:
            raise LookupError(f"{len(folders)} kernels match {kernel_id or 'any id'}")
        return folders[0]

    def _bridges(self) -> Iterator[psutil.Process]:
        for process in processes_under(self._gateway.home.directory):
            words = command_line(process).split()
            if any(Path(word).stem == "clouditia-kernel" for word in words[:2]):
                yield process


def _launch(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "launch.json").read_text())
    return fields


def _is_keeper_of(process: psutil.Process, folder: Path) -> bool:
    line = command_line(process)
    return "clouditia-kernelkeeper" in line and folder.name in line


def _only(found: list[psutil.Process], what: str) -> psutil.Process:
    if len(found) != 1:
        raise LookupError(f"{len(found)} {what}: {describe(found)}")
    return found[0]
