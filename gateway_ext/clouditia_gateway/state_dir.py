"""The gateway's state directory: made, locked, and described to others by ``gateway.json``.

Layout, all of it private to the gateway's user::

    gateway.json       {url, host_url, pid, version, tls_pin}: where to find the running gateway
    gateway.lock       flock, held while a gateway runs here
    gateway.sqlite3    keys, kernels, sessions, settings
    gateway.log        log, rotated
    audit.jsonl        the audit log; older parts audit-*.jsonl, its end in audit.head
    admin.key          the first admin key
    k/<8 hex>/         one directory per kernel, see docs/host-protocol.md
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from clouditia.atomic_files import write_private
from clouditia.errors import ConfigError
from clouditia_gateway.store import KERNELS_DIR


class StateDir:
    """Paths below one state directory."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  (keeps symlinks)
        self.kernels = self.path / KERNELS_DIR
        self.database = self.path / "gateway.sqlite3"
        self.gateway_file = self.path / "gateway.json"
        self.admin_key = self.path / "admin.key"
        self.log = self.path / "gateway.log"
        self._lock_fd: int | None = None

    def prepare(self) -> None:
        """Create what is missing and check that it can be written.

        Raises:
            ConfigError: it is a file, cannot be created or written, or belongs to somebody else.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.path.stat().st_uid
            if owner != os.geteuid():
                raise ConfigError(
                    f"the state directory {self.path} belongs to user {owner}, "
                    f"the gateway runs as {os.geteuid()}",
                    hint="Choose another one with --state-dir.",
                )
            self.path.chmod(0o700)
            self.kernels.mkdir(mode=0o700, exist_ok=True)
            probe = self.path / f".probe-{secrets.token_hex(4)}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as exc:
            raise ConfigError(
                f"the state directory {self.path} cannot be used: {exc.strerror or exc}",
                hint="Choose another one with --state-dir.",
            ) from exc

    def lock(self) -> None:
        """Become the only gateway on this directory, until :meth:`unlock` or the process ends.

        Raises:
            ConfigError: another gateway runs on it; names its pid and URL where known.
        """
        fd = os.open(self.path / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            running = self.read_gateway_file() or {}
            where = f" (pid {running['pid']}, {running['url']})" if running else ""
            raise ConfigError(
                f"another gateway already runs on the state directory {self.path}{where}",
                hint="Stop it with clouditia gateway stop, or choose another --state-dir.",
            ) from None
        self._lock_fd = fd

    def is_locked_by_another(self) -> bool:
        """Whether a gateway runs on this directory now (and it is not this process)."""
        try:
            fd = os.open(self.path / "gateway.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def unlock(self) -> None:
        """Let another gateway use the directory; harmless when repeated."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def read_gateway_file(self) -> dict[str, Any] | None:
        """The content of ``gateway.json``, or None when there is none or it is not ours."""
        try:
            content = json.loads(self.gateway_file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) and {"pid", "url"} <= set(content) else None

    def write_gateway_file(self, content: dict[str, Any]) -> None:
        """Replace ``gateway.json`` atomically.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            write_private(self.gateway_file, json.dumps(content) + "\n")
        except OSError as exc:
            raise ConfigError(
                f"{self.gateway_file} cannot be written: {exc.strerror}",
                hint="Free space on its disk, then start again; kernels run on meanwhile.",
            ) from exc

    def new_kernel_dir(self) -> Path:
        """A fresh name ``k/<8 hex>``; the directory itself is not made yet."""
        while True:
            path = self.kernels / secrets.token_hex(4)
            if not path.exists():
                return path
