"""Tables of ``gateway.sqlite3`` and the steps from each version of them to the next."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from clouditia.errors import ConfigError

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
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SCOPES, _ENDINGS)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the database to this program's version, in one transaction.

    Raises:
        ConfigError: a newer program wrote it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _checked_version(connection, path)
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise ConfigError(
            f"{path} was written by a newer Clouditia (state version {found}, this program "
            f"knows up to {VERSION})",
            hint="Update this program, or choose another --state-dir.",
        )
    return found
