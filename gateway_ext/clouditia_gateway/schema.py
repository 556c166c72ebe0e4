"""Tables of ``gateway.sqlite3`` and the steps from each version of them to the next."""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import TYPE_CHECKING

from clouditia.errors import ConfigError
from clouditia_gateway import row_sums

if TYPE_CHECKING:
    from pathlib import Path

_FIRST = (
    """CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE keys (
        key_id TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
        secret_sha256 TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        revoked_at TEXT,
        last_used_at TEXT
    ) STRICT""",
    """CREATE TABLE kernels (
        kernel_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        display_name TEXT NOT NULL,
        path TEXT NOT NULL,
        directory TEXT NOT NULL UNIQUE,
        fence INTEGER NOT NULL,
        token_sha256 TEXT NOT NULL,
        engine_ref TEXT NOT NULL,
        created_at TEXT NOT NULL,
        ended_at TEXT
    ) STRICT""",
    "CREATE INDEX kernels_by_owner ON kernels (owner)",
    # Every token that was ever given to a host of a kernel: an old host is told that it is old.
    """CREATE TABLE host_tokens (
        token_sha256 TEXT PRIMARY KEY,
        kernel_id TEXT NOT NULL REFERENCES kernels (kernel_id) ON DELETE CASCADE,
        fence INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX host_tokens_by_kernel ON host_tokens (kernel_id)",
    """CREATE TABLE sessions (
        session_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        path TEXT NOT NULL,
        name TEXT NOT NULL,
        type TEXT NOT NULL,
        kernel_id TEXT NOT NULL REFERENCES kernels (kernel_id) ON DELETE CASCADE,
        created_at TEXT NOT NULL,
        UNIQUE (owner, path)
    ) STRICT""",
    "CREATE INDEX sessions_by_kernel ON sessions (kernel_id)",
)

_SCOPES = ("ALTER TABLE keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'all'",)

#: Kernels that a limit has ended, for whoever asks where they are.
_ENDINGS = (
    """CREATE TABLE endings (
        kernel_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        ended_at TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX endings_by_owner ON endings (owner, ended_at)",
)

#: ``MIGRATIONS[n]`` takes a database from version n to n + 1.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SCOPES, _ENDINGS, (row_sums.CREATE,))
VERSION = len(MIGRATIONS)
#: Since this version each row has a checksum.
_WITH_SUMS = 4


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    migrations: tuple[tuple[str, ...], ...] = MIGRATIONS,
) -> None:
    """Bring the database to this program's version, in one transaction.

    Raises:
        ConfigError: a newer program wrote it, or a row is not what was written.
    """
    version = len(migrations)
    if _checked_version(connection, path, version) == version and _has_sums(connection):
        _check_rows(connection, path)
        return  # nothing to write, so that a full disk does not keep a gateway from starting
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _checked_version(connection, path, version)
        if found >= _WITH_SUMS:
            _check_rows(connection, path)
        for statements in migrations[found:]:
            for statement in statements:
                connection.execute(statement)
        row_sums.recompute(connection)
        connection.execute(f"PRAGMA user_version = {version}")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def check_tables(
    connection: sqlite3.Connection,
    path: Path,
    migrations: tuple[tuple[str, ...], ...] = MIGRATIONS,
) -> None:
    """Compare the tables with those of a new database.

    Raises:
        ConfigError: one is not what this program has made.
    """
    fresh = sqlite3.connect(":memory:")
    try:
        for statement in chain.from_iterable(migrations):
            fresh.execute(statement)
        expected = _tables_of(fresh)
    finally:
        fresh.close()
    found = _tables_of(connection)
    if found != expected:
        names = {name for name, _ in found ^ expected}
        raise ConfigError(
            f"the database {path} is damaged: {min(names)} is not what this program has made",
            hint="Restore a backup (clouditia gateway restore).",
        )


def _tables_of(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    rows = connection.execute("SELECT name, coalesce(sql, '') FROM main.sqlite_master")
    return {(str(name), str(sql)) for name, sql in rows}


def _has_sums(connection: sqlite3.Connection) -> bool:
    """Whether rows have sums; none has after they were removed by hand to accept all rows."""
    return connection.execute(f"SELECT 1 FROM {row_sums.SUMS} LIMIT 1").fetchone() is not None  # noqa: S608


def _check_rows(connection: sqlite3.Connection, path: Path) -> None:
    damaged = row_sums.first_damage(connection)
    if damaged is not None:
        raise ConfigError(
            f"the database {path} is damaged: a row of the table {damaged} is not what was written",
            hint="Restore a backup (clouditia gateway restore). If you have changed the table "
            f"yourself, accept it as it is: sqlite3 {path.name} '{row_sums.FORGET}'.",
        )


def _checked_version(connection: sqlite3.Connection, path: Path, version: int) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > version:
        raise ConfigError(
            f"{path} was written by a newer Clouditia (state version {found}, this program "
            f"knows up to {version})",
            hint="Update this program, or choose another --state-dir.",
        )
    return found
