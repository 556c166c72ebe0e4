"""The first 80 ms of a kernel host: read what to do, start the kernel, then import the rest.

The start of a remote kernel is measured against a local one, so nothing here may import asyncio,
zmq, websockets or logging: they are loaded while the kernel starts.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from clouditia_gateway.host import proc
from clouditia_gateway.host.connection_file import (
    ConnectionInfo,
    new_connection,
    remove_sockets,
    write_connection_file,
)
from clouditia_gateway.host.keeper import KeeperHandles, KernelCommand, fork_keeper

FORMAT = 1
FIRST_EPOCH = 1


class Retention(NamedTuple):
    """How much of the journal is kept."""

    max_bytes: int
    max_age_s: float


class LaunchSpec(NamedTuple):
    """``launch.json``; see docs/host-protocol.md."""

    kernel_id: str
    fence: int
    token: str
    gateway_file: Path
    directory: Path
    kernel_name: str
    display_name: str
    language: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    interrupt_mode: str
    supports_ipc: bool
    retention: Retention
    detached_ttl_s: float = 0.0

    @property
    def connection_file(self) -> Path:
        """The kernel's connection file."""
        return self.directory / "kernel.json"

    @property
    def host_file(self) -> Path:
        """Who serves this directory."""
        return self.directory / "host.json"

    def command(self) -> KernelCommand:
        """The kernel's final command line and surroundings."""
        values = [arg.replace("{connection_file}", str(self.connection_file)) for arg in self.argv]
        major, minor = sys.version_info[:2]
        if values and values[0] in ("python", f"python{major}", f"python{major}.{minor}"):
            # As jupyter_client does: the bare name means the Python that runs Jupyter.
            values[0] = sys.executable
        return KernelCommand(values, self.env, self.cwd, str(self.directory))

    def connection(self, epoch: int) -> ConnectionInfo:
        """Make and write the connection file of a new epoch; the old one's sockets go away."""
        remove_sockets(self.connection_file)
        info = new_connection(
            self.directory, epoch, supports_ipc=self.supports_ipc, kernel_name=self.kernel_name
        )
        write_connection_file(self.connection_file, info)
        return info


class Launched(NamedTuple):
    """What the fast start hands to the conductor.

    ``connection`` is None where a dead host's directory was taken over: no kernel was started.
    """

    spec: LaunchSpec
    keeper: KeeperHandles
    connection: ConnectionInfo | None
    lock: int


def run(arguments: list[str]) -> int:
    """Start the kernel, then serve it to its end; returns the exit code of the process."""
    if len(arguments) != 1:
        sys.stderr.write("usage: clouditia-kernelhost LAUNCH_JSON\n")
        return 2
    try:
        launched = launch(Path(arguments[0]))
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"clouditia-kernelhost: cannot start from {arguments[0]}: {exc}\n")
        return 2
    from clouditia_gateway.host.host import serve  # everything heavy, while the kernel starts

    return serve(launched)


def launch(path: Path) -> Launched:
    """Take the directory and start the kernel, or take over what a dead host has left.

    Raises:
        OSError, ValueError: the file or the directory cannot be used, or another host serves it.
    """
    spec = read_launch(path)
    lock = take_lock(spec.directory / "host.lock")
    proc.become_subreaper()
    is_takeover = spec.host_file.exists()
    if is_takeover:
        end_leftovers(spec)
    connection = None if is_takeover else spec.connection(FIRST_EPOCH)
    keeper = fork_keeper(spec.command(), spawn_now=connection is not None)
    return Launched(spec, keeper, connection, lock)


def read_launch(path: Path) -> LaunchSpec:
    """Read and check ``launch.json``.

    Raises:
        ValueError: it is not JSON, of another format, or a field is missing or malformed.
    """
    try:
        fields: Any = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # one kind of error for a bad file
    if fields.get("format") != FORMAT:
        raise ValueError(f"launch format {fields.get('format')!r} is not {FORMAT}")
    try:
        retention = fields["retention"]
        spec = LaunchSpec(
            gateway_file=Path(fields["gateway_file"]),
            directory=Path(fields["directory"]),
            retention=Retention(int(retention["max_bytes"]), float(retention["max_age_s"])),
            detached_ttl_s=float(fields.get("detached_ttl_s") or 0.0),
            **{name: fields[name] for name in _PLAIN_FIELDS},
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"launch file: {type(exc).__name__} {exc}") from None
    if not spec.argv or not _is_texts(spec.argv, list):
        raise ValueError("argv is not a list of texts with at least one")
    if not _is_texts(spec.env, dict) or not _is_texts([*spec.env.values(), spec.cwd], list):
        raise ValueError("env or cwd are not texts")
    return spec


def _is_texts(value: object, kind: type[list[Any]] | type[dict[Any, Any]]) -> bool:
    return isinstance(value, kind) and all(isinstance(item, str) for item in value)


_PLAIN_FIELDS = (
    "kernel_id", "fence", "token", "kernel_name", "display_name", "language",
    "argv", "env", "cwd", "interrupt_mode", "supports_ipc",
)  # fmt: skip


def take_lock(path: Path) -> int:
    """Lock the kernel's directory for this process; the lock ends with it.

    Raises:
        OSError: another host holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise OSError(f"another kernel host serves {path.parent} (it holds {path.name})") from None
    return descriptor


def end_leftovers(spec: LaunchSpec) -> None:
    """Kill the kernel of a dead host, should it still run; pid and start time must match."""
    try:
        fields = json.loads(spec.host_file.read_bytes())
        pid, started = int(fields["kernel_pid"]), int(fields["kernel_start_time"])
        group = int(fields["kernel_pgid"])
        if proc.is_alive(int(fields.get("pid", 0)), int(fields.get("start_time", 0))):
            return  # this directory is a copy, and the kernel that of the original
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return  # it had no kernel
    if fields.get("boot_id", proc.boot_id()) == proc.boot_id() and proc.is_alive(pid, started):
        proc.kill_group(group)
