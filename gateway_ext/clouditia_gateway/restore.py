"""Makes a state directory of a backup: a new one, or the database beside kernels that still run.

Nothing is overwritten. A new directory is put together beside its place and renamed in the end; in
a directory with kernels the database comes last, so that a restore that is stopped halfway leaves a
directory on which no gateway starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from clouditia.atomic_files import write_private
from clouditia.errors import ConfigError
from clouditia_gateway.backup import ADMIN_KEY, DATABASE, FORMAT, MANIFEST
from clouditia_gateway.clock import iso_now
from clouditia_gateway.host import proc
from clouditia_gateway.records import KernelRecord
from clouditia_gateway.state_dir import StateDir
from clouditia_gateway.store import Store

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_KERNEL_FILE = re.compile(r"k/([0-9a-f]{8})/(launch\.json|journal/([0-9]{8}\.journal|boot_id))")
_AUDIT_FILE = re.compile(r"audit\.head|audit(-[0-9]{12})?\.jsonl")
#: What may lie in a directory whose database is gone and whose kernels are kept.
_KEPT = {"k", ADMIN_KEY, "gateway.json", "gateway.lock", "gateway.log", "gateway.log.1"}
#: ``host.json`` of a kernel whose host is not of this directory: the next host takes over.
_NO_HOST = "{}\n"


class RestoredKernel(NamedTuple):
    """A live kernel of the backup, or one that is newer, and whether it still runs."""

    kernel_id: str
    owner: str
    display_name: str
    is_running: bool
    is_newer: bool = False


class RestoreReport(NamedTuple):
    """What was restored."""

    created_at: str
    has_journals: bool
    kernels: list[RestoredKernel]


def restore(archive_path: Path, state: StateDir, *, keep_kernels: bool) -> RestoreReport:
    """Restore a backup.

    Args:
        archive_path: The backup.
        state: Where to; a new or an empty directory, unless ``keep_kernels``.
        keep_kernels: The directory has kernels and no database; those that run are taken over.

    Raises:
        ConfigError: it is no backup, or the directory is not as it must be.
    """
    try:
        with tarfile.open(archive_path, "r:") as archive:
            manifest = _read_manifest(archive, archive_path)
            if keep_kernels:
                state.lock()  # refuses where a gateway runs
                try:
                    _check_kept(state)
                    _restore_beside_kernels(archive, state)
                finally:
                    state.unlock()
            else:
                _check_empty(state)
                _restore_new(archive, state)
    except (OSError, tarfile.TarError, EOFError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"{archive_path} cannot be restored: {reason}") from exc
    with closing(Store(state.database)) as store:
        kernels = _adopt(store, state) if keep_kernels else _find(store, manifest["state_dir"])
    return RestoreReport(manifest["created_at"], manifest["has_journals"], kernels)


def _check_empty(state: StateDir) -> None:
    if state.path.exists() and any(state.path.iterdir()):
        raise ConfigError(
            f"the directory {state.path} is not empty, and a restore overwrites nothing",
            hint="Choose a new directory; or, to keep its running kernels, move its "
            "gateway.sqlite3* aside and add --keep-kernels.",
        )


def _check_kept(state: StateDir) -> None:
    if not state.kernels.is_dir():
        raise ConfigError(f"{state.path} has no kernels to keep", hint="Leave --keep-kernels out.")
    names = {path.name for path in state.path.iterdir()} - _KEPT
    others = sorted(name for name in names if not _AUDIT_FILE.fullmatch(name))
    if others:
        raise ConfigError(
            f"{state.path} has {others[0]}, and a restore overwrites nothing",
            hint=f"Move {', '.join(others)} aside.",
        )


def _read_manifest(archive: tarfile.TarFile, path: Path) -> dict[str, Any]:
    first = archive.next()
    problem = f"{path} is no backup of a gateway"
    if first is None or first.name != MANIFEST or first.size > _MAX_MANIFEST_BYTES:
        raise ConfigError(problem)
    try:
        manifest: Any = json.loads(_content(archive, first))
        if manifest["format"] != FORMAT:
            raise ConfigError(
                f"{path} is a backup of format {manifest['format']!r}, this program reads {FORMAT}",
                hint="Restore it with the Clouditia that wrote it.",
            )
        return {
            "created_at": str(manifest["created_at"]),
            "state_dir": str(manifest["state_dir"]),
            "has_journals": manifest["has_journals"] is True,
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(problem) from None


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a backup behind its manifest; any other name or kind is refused."""
    while (member := archive.next()) is not None:
        is_known = member.name in (DATABASE, ADMIN_KEY) or _AUDIT_FILE.fullmatch(member.name)
        if not member.isreg() or not (is_known or _KERNEL_FILE.fullmatch(member.name)):
            raise ConfigError(
                f"the backup holds {member.name[:200]!r}, which no backup of ours does"
            )
        yield member


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = file.read() if file is not None else b""
    if len(content) != member.size:
        raise EOFError("it ends in the middle of a file")
    return content


def _restore_new(archive: tarfile.TarFile, state: StateDir) -> None:
    state.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = state.path.with_name(f".{state.path.name}.restore-{os.urandom(4).hex()}")
    unfinished.mkdir(mode=0o700)
    try:
        (unfinished / "k").mkdir(mode=0o700)
        for member in _members(archive):
            _extract(archive, member, unfinished / member.name)
        _check_database(unfinished / DATABASE)
        for directory in (unfinished / "k").iterdir():
            write_private(directory / "host.json", _NO_HOST)
        unfinished.rename(state.path)  # an empty directory of that name is replaced
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _restore_beside_kernels(archive: tarfile.TarFile, state: StateDir) -> None:
    kept = {path.name for path in state.kernels.iterdir()}
    database = state.path / f".{DATABASE}.restore"
    database.unlink(missing_ok=True)
    restored = set()
    for member in _members(archive):
        match = _KERNEL_FILE.fullmatch(member.name)
        if match and match.group(1) in kept:
            continue  # what is there is newer
        if match:
            restored.add(match.group(1))
        if member.name == DATABASE:
            _extract(archive, member, database)
        elif match or (member.name == ADMIN_KEY and not state.admin_key.exists()):
            _extract(archive, member, state.path / member.name)
    _check_database(database)
    for name in restored:
        write_private(state.kernels / name / "host.json", _NO_HOST)
    database.rename(state.database)


def _check_database(path: Path) -> None:
    if not path.exists():
        raise ConfigError("the backup holds no database")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, _content(archive, member))


def _find(store: Store, old_state_dir: str) -> list[RestoredKernel]:
    """The kernels of a new directory; hosts of the old one that still run are known to it.

    They dial in where the old directory's gateway was, and go on in their old directories.
    """
    kernels = []
    for record in store.live_kernels():
        directory = Path(record.directory)
        old = Path(old_state_dir) / "k" / directory.name
        is_running = _is_running(old)
        if is_running:
            directory.mkdir(mode=0o700, exist_ok=True)
            write_private(directory / "host.json", (old / "host.json").read_bytes())
        else:
            store.set_engine_ref(record.kernel_id, "")
        kernels.append(_restored(record, is_running=is_running))
    return kernels


def _adopt(store: Store, state: StateDir) -> list[RestoredKernel]:
    """Bring the database up to what the kernels' directories say."""
    known = {Path(record.directory).name: record for record in store.kernels()}
    for directory in sorted(state.kernels.iterdir()):
        launch = _json_of(directory / "launch.json")
        record = known.get(directory.name)
        if record is not None and launch.get("kernel_id") == record.kernel_id:
            if int(launch["fence"]) > record.fence:
                store.adopt_host(record.kernel_id, int(launch["fence"]), _sha256(launch["token"]))
        elif record is None and _is_running(directory):
            store.add_kernel(_newer_kernel(directory, launch))
    kernels = [
        _restored(record, is_running=_is_running(Path(record.directory)))
        for record in store.live_kernels()
    ]
    before = {record.kernel_id for record in known.values()}
    return [kernel._replace(is_newer=kernel.kernel_id not in before) for kernel in kernels]


def _newer_kernel(directory: Path, launch: dict[str, Any]) -> KernelRecord:
    """A kernel that was started after the backup, from what it was launched with."""
    variables = launch["env"]
    return KernelRecord(
        kernel_id=launch["kernel_id"],
        owner=variables["KERNEL_USERNAME"],
        name=launch["kernel_name"],
        display_name=launch["display_name"],
        path=variables.get("JPY_SESSION_NAME", ""),
        directory=str(directory),
        fence=int(launch["fence"]),
        token_sha256=_sha256(launch["token"]),
        engine_ref="",
        created_at=iso_now(),
    )


def _is_running(directory: Path) -> bool:
    host = _json_of(directory / "host.json")
    try:
        launch_file = str(directory / "launch.json")
        return proc.serves(int(host["pid"]), int(host["start_time"]), launch_file)
    except (KeyError, TypeError, ValueError):
        return False


def _restored(record: KernelRecord, *, is_running: bool) -> RestoredKernel:
    return RestoredKernel(record.kernel_id, record.owner, record.display_name, is_running)


def _json_of(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
