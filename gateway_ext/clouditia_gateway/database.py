"""The SQLite file of a state directory: opened with checks, and its troubles in our words.

A file that is damaged, missing beside kernels, or of a newer program is refused and left alone;
nothing is ever begun anew in its place. A disk that is full makes single requests fail.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clouditia.errors import ConfigError
from clouditia_gateway import row_sums, schema
from clouditia_gateway.errors import StorageError

_BUSY_TIMEOUT_S = 5.0
#: Pages in the write-ahead log before they go to the main file (16 MiB). Until then the main file
#: does not change, so that a plain copy of both files is a good one.
_CHECKPOINT_PAGES = 4096
#: Primary result codes that say that the file itself is not what it should be.
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
RESTORE_HINT = (
    "Move the state directory's gateway.sqlite3* aside and restore a backup: "
    "clouditia gateway restore FILE --state-dir DIR --keep-kernels."
)
_FREE_SPACE_HINT = "Free space on the gateway's disk, then try again. Running kernels go on."


class Database:
    """A connection that raises our errors; used from one thread.

    Raises:
        ConfigError: the file cannot be opened, is damaged or missing, or is of a newer program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _refuse_to_begin_anew(path)
            if not path.exists():
                path.touch(mode=0o600)  # SQLite gives its side files the same mode
            self._connection = _open(path)
        except (sqlite3.Error, OSError) as exc:
            hint = RESTORE_HINT if is_damage(exc) else _FREE_SPACE_HINT
            raise ConfigError(
                f"the database {path} cannot be used: {exc}{_free_space(path)}", hint=hint
            ) from exc

    def close(self) -> None:
        """Close; harmless when repeated."""
        self._connection.close()

    def checkpoint(self) -> None:
        """Put what the write-ahead log holds into the main file, where that is possible now."""
        with suppress(sqlite3.Error):  # a full disk, or somebody else reads: next time
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Run one statement.

        Raises:
            StorageError: the disk does not take it, or the file is damaged.
        """
        with _translated(self.path):
            return self._connection.execute(statement, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside happen, or none does."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # Some errors have rolled back already; a failed COMMIT has not.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is not what it should be."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a rule of ours, not of the disk
    except sqlite3.DatabaseError as exc:
        if is_damage(exc):
            raise StorageError(f"the database {path.name} is damaged: {exc}") from exc
        raise StorageError(
            f"the gateway cannot write down what was asked for: {exc}{_free_space(path)}",
            hint=_FREE_SPACE_HINT,
            retryable=True,
        ) from exc


def _free_space(path: Path) -> str:
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError:
        return ""
    return f" ({usage.free >> 10} KiB of its disk's {usage.total >> 10} are free)"


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        _check_pages(connection, path)
        schema.migrate(connection, path)
        schema.check_tables(connection, path)
        row_sums.attach(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise ConfigError(f"the database {path} is damaged: {found[0]}", hint=RESTORE_HINT)


def _refuse_to_begin_anew(path: Path) -> None:
    """A state directory in use has a database; an empty one would forget all keys and kernels."""
    if path.exists() and path.stat().st_size:
        return
    kernels = path.parent / "k"
    used_by = [path.parent / "admin.key"] if (path.parent / "admin.key").exists() else []
    used_by += sorted(kernels.iterdir())[:1] if kernels.is_dir() else []
    if used_by:
        what = "is empty" if path.exists() else "is missing"
        raise ConfigError(
            f"the database {path} {what}, but the state directory is in use "
            f"({used_by[0].relative_to(path.parent)} is there)",
            hint=f"{RESTORE_HINT} To begin anew, choose another --state-dir.",
        )
