"""Launching kernel hosts: from a checked request to a running host process.

The order is what makes a crash harmless: the kernel is recorded, then its directory and
``launch.json`` are written, then the host is started. A record without a host is a dead kernel; a
host without a record is turned away and ends itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia.atomic_files import write_private
from clouditia.errors import ConfigError, KernelDied
from clouditia_gateway.clock import iso_now
from clouditia_gateway.engines.base import HostRef, HostSpec
from clouditia_gateway.errors import StorageError
from clouditia_gateway.kernel_env import INHERITED, build_env
from clouditia_gateway.kernelspecs import check_executable
from clouditia_gateway.life_limits import wanted_ttl
from clouditia_gateway.records import KernelRecord
from clouditia_gateway.workdir import checked_path, working_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clouditia_gateway.config import GatewayConfig
    from clouditia_gateway.engines.base import Engine
    from clouditia_gateway.kernelspecs import KernelSpecs, Spec
    from clouditia_gateway.state_dir import StateDir
    from clouditia_gateway.store import Store

log = logging.getLogger("clouditia.gateway")

LAUNCH_FORMAT = 1
RETENTION_BYTES = 1024**3
RETENTION_S = 7 * 24 * 3600.0


class HostLauncher:
    """Starts the first host of a kernel, and the next ones on the same directory."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        state: StateDir,
        specs: KernelSpecs,
        config: GatewayConfig,
        environment: Mapping[str, str],
    ) -> None:
        self.engine = engine
        self._store = store
        self._state = state
        self._specs = specs
        self._config = config
        self._environment = environment

    async def launch_new(
        self, *, owner: str, name: str | None, env: Mapping[str, str], path: str, kernel_id: str
    ) -> tuple[KernelRecord, tuple[str, ...]]:
        """Record and launch a kernel; returns it and the names in ``env`` that were not taken.

        Raises:
            NotFoundError: there is no such kernelspec.
            ConfigError: its program is missing, or ``path`` or its time limit is not acceptable.
            ClouditiaError: the engine refused; then nothing is left behind.
        """
        spec = self._specs.get(name or self._specs.default_name)
        path = checked_path(path)
        cwd = working_directory(self._config.kernel_root, path)
        built = build_env(self._environment, spec.env, env, user=owner)
        if path:
            built.variables["JPY_SESSION_NAME"] = path
        ttl_s = wanted_ttl(built.variables, spec.metadata, self._config.limits)
        check_executable(spec, built.variables.get("PATH", ""))
        token = secrets.token_hex(32)
        record = KernelRecord(
            kernel_id=kernel_id,
            owner=owner,
            name=spec.name,
            display_name=spec.display_name,
            path=path,
            directory=str(self._state.new_kernel_dir()),
            fence=1,
            token_sha256=sha256(token),
            engine_ref="",
            created_at=iso_now(),
        )
        self._store.add_kernel(record)
        try:
            content = self._launch_file(record, token, spec, built.variables, cwd)
            self._write(record, content | {"detached_ttl_s": ttl_s})
            launched = await self._launch(record)
        except BaseException:
            # Nobody has heard of this kernel yet; it may disappear without a trace. Without its
            # directory a host ends, so that at worst (a full disk) a dead kernel is listed.
            shutil.rmtree(record.directory, ignore_errors=True)
            with suppress(StorageError):
                self._store.remove_kernel(kernel_id)
            raise
        return launched, built.ignored

    async def relaunch(self, record: KernelRecord) -> KernelRecord:
        """Start a host on the directory of a kernel whose host is dead; the old one is fenced off.

        Raises:
            KernelDied: the directory or its ``launch.json`` is gone.
            ClouditiaError: the engine refused.
        """
        try:
            content = json.loads((Path(record.directory) / "launch.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as exc:
            raise KernelDied(
                f"the kernel {record.kernel_id} cannot be served again: what it was launched from "
                "is lost",
                hint="Shut it down and start a new one.",
            ) from exc
        await self.engine.stop(ref_of(record))
        token = secrets.token_hex(32)
        fence = self._store.raise_fence(record.kernel_id, sha256(token))
        content |= {
            "fence": fence,
            "token": token,
            # Both may have moved with the state directory.
            "gateway_file": str(self._state.gateway_file),
            "directory": record.directory,
        }
        self._write(record, content)
        fresh = self._store.kernel(record.kernel_id)
        if fresh is None:
            raise ConfigError(f"the kernel {record.kernel_id} was removed meanwhile")
        return await self._launch(fresh)

    async def _launch(self, record: KernelRecord) -> KernelRecord:
        names = INHERITED | {"TMPDIR"}
        environment = {
            name: value
            for name, value in self._environment.items()
            if name in names or name.startswith("LC_")
        }
        ref = await self.engine.launch(
            HostSpec(record.kernel_id, record.fence, Path(record.directory), environment)
        )
        self._store.set_engine_ref(record.kernel_id, ref.token)
        log.info(
            "launched a host for kernel %s (%s), fence %d",
            record.kernel_id,
            record.name,
            record.fence,
        )
        return self._store.kernel(record.kernel_id) or record

    def _launch_file(
        self, record: KernelRecord, token: str, spec: Spec, env: dict[str, str], cwd: Path
    ) -> dict[str, Any]:
        resource_dir = str(spec.resource_dir)
        return {
            "format": LAUNCH_FORMAT,
            "kernel_id": record.kernel_id,
            "fence": record.fence,
            "token": token,
            "gateway_file": str(self._state.gateway_file),
            "directory": record.directory,
            "kernel_name": spec.name,
            "display_name": spec.display_name,
            "language": spec.language,
            "argv": [part.replace("{resource_dir}", resource_dir) for part in spec.argv],
            "env": env,
            "cwd": str(cwd),
            "interrupt_mode": spec.interrupt_mode,
            "supports_ipc": spec.supports_ipc,
            "retention": {"max_bytes": RETENTION_BYTES, "max_age_s": RETENTION_S},
        }

    def _write(self, record: KernelRecord, content: dict[str, Any]) -> None:
        directory = Path(record.directory)
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            write_private(directory / "launch.json", json.dumps(content) + "\n")
        except OSError as exc:
            raise StorageError(
                f"the kernel's directory cannot be written: {exc.strerror}",
                hint="Free space on the gateway's disk, then try again. Running kernels go on.",
                retryable=True,
            ) from exc


def ref_of(record: KernelRecord) -> HostRef:
    """The engine's reference to the kernel's newest host."""
    return HostRef(Path(record.directory), record.engine_ref)


def sha256(token: str) -> str:
    """Hex digest of a host token."""
    return hashlib.sha256(token.encode()).hexdigest()


def checked_kernel_id(kernel_id: object) -> str:
    """A kernel id that a client chose, or a new one for ``None``.

    Raises:
        ConfigError: it is not a UUID in its usual form.
    """
    if kernel_id is None:
        return str(uuid.uuid4())
    try:
        if isinstance(kernel_id, str) and str(uuid.UUID(kernel_id)) == kernel_id:
            return kernel_id
    except ValueError:
        pass
    raise ConfigError(
        "kernel_id must be a UUID in lower case with dashes",
        hint="Leave it out to let the gateway choose.",
    )
