"""A copy of a live state directory in one file.

The database is copied as of one moment by SQLite's own backup; after it come the files of the
kernels that it names. A journal is copied as long as it is when it is opened: what a kernel
prints meanwhile is not in the copy, and a frame that was being written is cut at its next start.

The file is a tar archive that begins with ``manifest.json``. It holds the admin key and the tokens
of kernel hosts, so only its owner may read it.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from clouditia import __version__
from clouditia.errors import ConfigError
from clouditia_gateway.audit.files import AuditFiles
from clouditia_gateway.clock import iso_now
from clouditia_gateway.state_dir import StateDir

FORMAT = 1
MANIFEST, DATABASE, ADMIN_KEY = "manifest.json", "gateway.sqlite3", "admin.key"


class BackupReport(NamedTuple):
    """What a backup holds."""

    path: Path
    kernels: int
    has_journals: bool
    size_bytes: int


def write_backup(state: StateDir, path: Path, *, with_journals: bool) -> BackupReport:
    """Copy the state directory, also while a gateway runs on it, to the new file ``path``.

    Raises:
        ConfigError: there is no state directory, ``path`` exists, or something cannot be read or
            written; then there is no file.
    """
    if not state.database.exists():
        raise ConfigError(
            f"there is no gateway's database in {state.path}", hint="--state-dir names another one."
        )
    if path.exists():
        raise ConfigError(f"{path} exists already", hint="Choose another name for the backup.")
    unfinished = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    snapshot = unfinished.with_name(f"{unfinished.name}.sqlite3")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            kernels = _snapshot(state.database, snapshot)
            _fill(file, state, snapshot, kernels, with_journals=with_journals)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, sqlite3.Error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"the backup {path} cannot be written: {reason}") from exc
    finally:
        unfinished.unlink(missing_ok=True)
        snapshot.unlink(missing_ok=True)
    return BackupReport(path, len(kernels), with_journals, path.stat().st_size)


def _snapshot(database: Path, copy: Path) -> list[dict[str, Any]]:
    """Copy the database; returns its live kernels."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without others beside it
        rows = target.execute(
            "SELECT kernel_id, owner, display_name, directory FROM kernels "
            "WHERE ended_at IS NULL ORDER BY created_at, kernel_id"
        ).fetchall()
    names = ("kernel_id", "owner", "display_name", "directory")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _fill(
    file: IO[bytes],
    state: StateDir,
    snapshot: Path,
    kernels: list[dict[str, Any]],
    *,
    with_journals: bool,
) -> None:
    manifest = {
        "format": FORMAT,
        "version": __version__,
        "created_at": iso_now(),
        "state_dir": str(state.path),
        "has_journals": with_journals,
        "kernels": kernels,
    }
    with tarfile.open(fileobj=file, mode="w") as archive:
        _add_bytes(archive, MANIFEST, json.dumps(manifest, indent=1).encode())
        _add_file(archive, DATABASE, snapshot)
        _add_file(archive, ADMIN_KEY, state.admin_key)
        audit = AuditFiles(state.path)
        for path in (audit.head, *audit.parts()):  # the head first: lines behind it do not matter
            _add_file(archive, path.name, path)
        for kernel in kernels:
            directory = state.kernels / kernel["directory"]
            for path in _kernel_files(directory, with_journals=with_journals):
                _add_file(archive, f"k/{path.relative_to(state.kernels)}", path)


def _kernel_files(directory: Path, *, with_journals: bool) -> Iterator[Path]:
    """What a new host needs of a kernel's directory; sockets, locks and logs are not of it."""
    yield directory / "launch.json"
    if with_journals:
        yield from sorted((directory / "journal").glob("*.journal"))
        yield directory / "journal" / "boot_id"


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Add a file as long as it is now; one that has gone meanwhile is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        facts = os.fstat(file.fileno())
        if stat.S_ISREG(facts.st_mode):
            entry = _entry(name, facts.st_size)
            entry.mtime = int(facts.st_mtime)
            archive.addfile(entry, file)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_entry(name, len(content)), io.BytesIO(content))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
