"""The Jupyter connection file: where the front end expects its kernel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clouditia.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PORTS", "ConnectionInfo", "read_connection_file"]

PORTS = ("shell", "iopub", "stdin", "control", "hb")


@dataclass(frozen=True)
class ConnectionInfo:
    """Addresses and keys of the five local sockets.

    Attributes:
        ports: Port number per name of :data:`PORTS`; for ``ipc`` a suffix of the path ``ip``.
        key: Signs messages; empty turns signing off.
        curve_publickey: With ``curve_secretkey``: only encrypted connections are accepted.
    """

    transport: str
    ip: str
    ports: dict[str, int]
    key: bytes
    signature_scheme: str
    curve_publickey: bytes | None = None
    curve_secretkey: bytes | None = None

    def address(self, name: str) -> str:
        """The ZMQ address of one socket."""
        separator = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{separator}{self.ports[name]}"


def read_connection_file(path: Path) -> ConnectionInfo:
    """Read a connection file that a front end wrote.

    Raises:
        ConfigError: it cannot be read, or a field is missing or impossible.
    """
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"the connection file {path} cannot be read: {exc}") from exc
    if not isinstance(fields, dict):
        raise ConfigError(f"the connection file {path} must hold a JSON object")
    try:
        info = ConnectionInfo(
            transport=str(fields.get("transport", "tcp")),
            ip=str(fields.get("ip", "127.0.0.1")),
            ports={name: _port(fields, f"{name}_port") for name in PORTS},
            key=str(fields.get("key", "")).encode(),
            signature_scheme=str(fields.get("signature_scheme") or "hmac-sha256"),
            curve_publickey=_optional_bytes(fields, "curve_publickey"),
            curve_secretkey=_optional_bytes(fields, "curve_secretkey"),
        )
    except ValueError as exc:
        raise ConfigError(f"the connection file {path}: {exc}") from None
    if info.transport not in ("tcp", "ipc"):
        raise ConfigError(
            f"the connection file {path}: transport {info.transport!r} is not 'tcp' or 'ipc'"
        )
    return info


def _port(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"{name} must be a number from 1 to 65535, not {value!r}")
    return value


def _optional_bytes(fields: dict[str, object], name: str) -> bytes | None:
    value = fields.get(name)
    return value.encode() if isinstance(value, str) and value else None
