"""Connection files: where a kernel's sockets are and the key that signs its messages.

Each epoch has fresh sockets and a fresh key, so that nothing of a dead kernel can be mistaken for
its successor's.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from clouditia.atomic_files import write_private

#: Longest path of a Unix socket (``sun_path`` without its final NUL).
MAX_SOCKET_PATH_BYTES = 107
_PORT_NAMES = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_FALLBACK_PREFIX = "clouditia-"


class ConnectionInfo(NamedTuple):
    """The contents of a connection file."""

    transport: str
    ip: str
    ports: tuple[int, ...]
    key: str
    kernel_name: str

    def url(self, port_name: str) -> str:
        """The ZMQ address of one of the five sockets, such as ``shell_port``."""
        port = self.ports[_PORT_NAMES.index(port_name)]
        separator = "-" if self.transport == "ipc" else ":"
        return f"{self.transport}://{self.ip}{separator}{port}"

    def fields(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "transport": self.transport,
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            "kernel_name": self.kernel_name,
            **dict(zip(_PORT_NAMES, self.ports, strict=True)),
        }


def new_connection(
    directory: Path, epoch: int, *, supports_ipc: bool, kernel_name: str
) -> ConnectionInfo:
    """Fresh sockets and a fresh key for the kernel process of ``epoch``."""
    key = os.urandom(32).hex()
    if not supports_ipc:
        return ConnectionInfo("tcp", "127.0.0.1", _free_ports(len(_PORT_NAMES)), key, kernel_name)
    ports = tuple(range(1, len(_PORT_NAMES) + 1))
    prefix = _socket_directory(directory) / f"s{epoch}"
    return ConnectionInfo("ipc", str(prefix), ports, key, kernel_name)


def write_connection_file(path: Path, info: ConnectionInfo) -> None:
    """Write the file with mode 0600; a reader sees the old or the new one, whole."""
    write_private(path, json.dumps(info.fields(), indent=1))


def remove_sockets(path: Path) -> None:
    """Remove the sockets (and their fallback directory) that the connection file names."""
    try:
        fields = json.loads(path.read_bytes())
        transport, prefix = fields["transport"], Path(fields["ip"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return  # no file, or not one of ours: nothing to remove
    if transport != "ipc":
        return
    for port in range(1, len(_PORT_NAMES) + 1):
        with suppress(OSError):
            prefix.with_name(f"{prefix.name}-{port}").unlink()
    if prefix.parent.name.startswith(_FALLBACK_PREFIX):
        with suppress(OSError):
            prefix.parent.rmdir()


def _socket_directory(directory: Path) -> Path:
    longest = directory / "s999999-5"
    if len(os.fsencode(longest)) <= MAX_SOCKET_PATH_BYTES:
        return directory
    short = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108  # a random 0700 directory in it
    if len(os.fsencode(short)) > MAX_SOCKET_PATH_BYTES // 2:
        short = Path("/tmp")  # noqa: S108
    short = short / (_FALLBACK_PREFIX + os.urandom(8).hex())
    short.mkdir(mode=0o700)
    return short


def _free_ports(count: int) -> tuple[int, ...]:
    import socket

    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return tuple(holder.getsockname()[1] for holder in holders)
    finally:
        for holder in holders:
            holder.close()
