"""All SQL of the gateway: keys, kernels, sessions and settings in one SQLite file.

Statements touch one or a few rows and take well under a millisecond of work, so they run on the
event loop. Commits are synced to disk (``synchronous = FULL``): what was answered is not lost.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from clouditia.errors import KernelNotFound
from clouditia_gateway.database import Database
from clouditia_gateway.records import KernelRecord

#: Folder beside the database that holds the kernels' directories.
KERNELS_DIR = "k"
#: How many ended kernels are remembered, of all users.
_ENDINGS_KEPT = 1000


@dataclass(frozen=True)
class KeyRecord:
    """One API key; its secret is known only as a hash. Times are ISO 8601, UTC."""

    key_id: str
    user: str
    is_admin: bool
    secret_sha256: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    scope: str = "all"


@dataclass(frozen=True)
class SessionRecord:
    """One Jupyter session: a user's name for a kernel."""

    session_id: str
    owner: str
    path: str
    name: str
    type: str
    kernel_id: str
    created_at: str


@dataclass(frozen=True)
class EndingRecord:
    """A kernel that a limit has ended, and why."""

    kernel_id: str
    owner: str
    name: str
    path: str
    ended_at: str
    reason: str


_KEY_COLUMNS = ", ".join(field.name for field in fields(KeyRecord))
_KERNEL_COLUMNS = ", ".join(field.name for field in fields(KernelRecord))
_SESSION_COLUMNS = ", ".join(field.name for field in fields(SessionRecord))
_ENDING_COLUMNS = ", ".join(field.name for field in fields(EndingRecord))


class Store:
    """The open database. One per process; used from one thread.

    Every method that writes raises StorageError where the disk does not take it.

    Raises:
        ConfigError: the file cannot be opened, is damaged or missing, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kernels_dir = path.parent / KERNELS_DIR
        self._db = Database(path)

    def close(self) -> None:
        """Close the database; harmless when repeated."""
        self._db.close()

    def checkpoint(self) -> None:
        """Put what the write-ahead log holds into the main file, where that is possible now."""
        self._db.checkpoint()

    def transaction(self) -> AbstractContextManager[None]:
        """All statements inside happen, or none does."""
        return self._db.transaction()

    def _insert(self, table: str, columns: str, row: Any) -> None:
        marks = ", ".join("?" for _ in fields(row))
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", astuple(row))  # noqa: S608  (names are ours)

    # --- settings -------------------------------------------------------------------------------

    def setting(self, name: str) -> str | None:
        """A stored setting, or None."""
        row = self._db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_setting(self, name: str, value: str) -> None:
        """Store a setting, replacing the old value."""
        self._db.execute(
            "INSERT INTO settings (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    # --- keys -----------------------------------------------------------------------------------

    def add_key(self, key: KeyRecord) -> None:
        """Add a key."""
        self._insert("keys", _KEY_COLUMNS, key)

    def key(self, key_id: str) -> KeyRecord | None:
        """The key of that id, live or not, or None."""
        found = self._keys("WHERE key_id = ?", key_id)
        return found[0] if found else None

    def keys(self) -> list[KeyRecord]:
        """All keys, oldest first."""
        return self._keys("ORDER BY created_at, key_id")

    def _keys(self, tail: str, *parameters: str) -> list[KeyRecord]:
        rows = self._db.execute(f"SELECT {_KEY_COLUMNS} FROM keys {tail}", parameters)  # noqa: S608
        return [KeyRecord(row[0], row[1], bool(row[2]), *row[3:]) for row in rows]

    def revoke_key(self, key_id: str, now: str) -> bool:
        """Mark a key as revoked; False when there is none or it was revoked before."""
        done = self._db.execute(
            "UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", (now, key_id)
        )
        return done.rowcount == 1

    def touch_key(self, key_id: str, now: str) -> None:
        """Note when a key was last used."""
        self._db.execute("UPDATE keys SET last_used_at = ? WHERE key_id = ?", (now, key_id))

    # --- kernels --------------------------------------------------------------------------------

    def add_kernel(self, kernel: KernelRecord) -> None:
        """Record a kernel together with its first host token."""
        with self.transaction():
            name = Path(kernel.directory).name
            self._insert("kernels", _KERNEL_COLUMNS, replace(kernel, directory=name))
            self._add_host_token(kernel.token_sha256, kernel.kernel_id, kernel.fence)

    def _add_host_token(self, token_sha256: str, kernel_id: str, fence: int) -> None:
        self._db.execute(
            "INSERT INTO host_tokens (token_sha256, kernel_id, fence) VALUES (?, ?, ?)",
            (token_sha256, kernel_id, fence),
        )

    def kernel(self, kernel_id: str) -> KernelRecord | None:
        """The kernel of that id, or None; tombstones included."""
        found = self._kernels("WHERE kernel_id = ?", kernel_id)
        return found[0] if found else None

    def kernels(self) -> list[KernelRecord]:
        """All kernels, tombstones included, oldest first."""
        return self._kernels("ORDER BY created_at, kernel_id")

    def live_kernels(self) -> list[KernelRecord]:
        """All kernels that nobody has asked to end, oldest first."""
        return self._kernels("WHERE ended_at IS NULL ORDER BY created_at, kernel_id")

    def _kernels(self, tail: str, *parameters: str) -> list[KernelRecord]:
        rows = self._db.execute(f"SELECT {_KERNEL_COLUMNS} FROM kernels {tail}", parameters)  # noqa: S608
        # Only the name is stored, so that a state directory may be restored somewhere else.
        return [
            replace(found, directory=str(self._kernels_dir / found.directory))
            for found in (KernelRecord(*row) for row in rows)
        ]

    def count_live_kernels(self, owner: str) -> int:
        """How many live kernels a user has."""
        query = "SELECT count(*) FROM kernels WHERE owner = ? AND ended_at IS NULL"
        return int(self._db.execute(query, (owner,)).fetchone()[0])

    def set_engine_ref(self, kernel_id: str, engine_ref: str) -> None:
        """Note how the engine calls the kernel's host."""
        self._db.execute(
            "UPDATE kernels SET engine_ref = ? WHERE kernel_id = ?", (engine_ref, kernel_id)
        )

    def raise_fence(self, kernel_id: str, token_sha256: str) -> int:
        """Make a new host launch the only valid one; returns its fence number.

        Raises:
            KernelNotFound: there is no such kernel any more.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE kernels SET fence = fence + 1, token_sha256 = ?, engine_ref = '' "
                "WHERE kernel_id = ?",
                (token_sha256, kernel_id),
            )
            query = "SELECT fence FROM kernels WHERE kernel_id = ?"
            row = self._db.execute(query, (kernel_id,)).fetchone()
            if row is None:
                raise KernelNotFound(f"there is no kernel {kernel_id}")
            fence = int(row[0])
            self._add_host_token(token_sha256, kernel_id, fence)
        return fence

    def adopt_host(self, kernel_id: str, fence: int, token_sha256: str) -> None:
        """Make a host the valid one that was launched after this database was written."""
        with self.transaction():
            self._db.execute(
                "UPDATE kernels SET fence = ?, token_sha256 = ?, engine_ref = '' "
                "WHERE kernel_id = ? AND fence < ?",
                (fence, token_sha256, kernel_id, fence),
            )
            self._add_host_token(token_sha256, kernel_id, fence)

    def host_token_fence(self, kernel_id: str, token_sha256: str) -> int | None:
        """The fence for which this kernel's host got that token, or None for a foreign token."""
        row = self._db.execute(
            "SELECT fence FROM host_tokens WHERE token_sha256 = ? AND kernel_id = ?",
            (token_sha256, kernel_id),
        ).fetchone()
        return None if row is None else int(row[0])

    def end_kernel(self, kernel_id: str, now: str, because: str = "") -> bool:
        """Set the tombstone; False when it was set before. Ends the kernel's sessions too.

        With ``because`` the kernel is remembered among the :meth:`endings`.
        """
        with self.transaction():
            done = self._db.execute(
                "UPDATE kernels SET ended_at = ? WHERE kernel_id = ? AND ended_at IS NULL",
                (now, kernel_id),
            )
            self._db.execute("DELETE FROM sessions WHERE kernel_id = ?", (kernel_id,))
            if because and done.rowcount == 1:
                self._remember_ending(kernel_id, because)
        return done.rowcount == 1

    def _remember_ending(self, kernel_id: str, because: str) -> None:
        self._db.execute(
            f"INSERT OR REPLACE INTO endings ({_ENDING_COLUMNS}) "  # noqa: S608  (names are ours)
            "SELECT kernel_id, owner, name, path, ended_at, ? FROM kernels WHERE kernel_id = ?",
            (because, kernel_id),
        )
        self._db.execute(
            "DELETE FROM endings WHERE kernel_id NOT IN "
            "(SELECT kernel_id FROM endings ORDER BY ended_at DESC LIMIT ?)",
            (_ENDINGS_KEPT,),
        )

    def ending(self, kernel_id: str) -> EndingRecord | None:
        """Why a limit has ended that kernel, or None."""
        found = self._endings("WHERE kernel_id = ?", kernel_id)
        return found[0] if found else None

    def endings(self, owner: str, limit: int) -> list[EndingRecord]:
        """A user's kernels that a limit has ended, newest first."""
        return self._endings("WHERE owner = ? ORDER BY ended_at DESC LIMIT ?", owner, limit)

    def _endings(self, tail: str, *parameters: str | int) -> list[EndingRecord]:
        rows = self._db.execute(f"SELECT {_ENDING_COLUMNS} FROM endings {tail}", parameters)  # noqa: S608
        return [EndingRecord(*row) for row in rows]

    def remove_kernel(self, kernel_id: str) -> None:
        """Forget a kernel that is gone for good."""
        self._db.execute("DELETE FROM kernels WHERE kernel_id = ?", (kernel_id,))

    # --- sessions -------------------------------------------------------------------------------

    def save_session(self, session: SessionRecord) -> None:
        """Add a session, or replace the one of the same id."""
        with self.transaction():
            self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session.session_id,))
            self._insert("sessions", _SESSION_COLUMNS, session)

    def session(self, session_id: str) -> SessionRecord | None:
        """The session of that id, or None."""
        found = self._sessions("WHERE session_id = ?", session_id)
        return found[0] if found else None

    def session_at(self, owner: str, path: str) -> SessionRecord | None:
        """The session that a user has at a path, or None."""
        found = self._sessions("WHERE owner = ? AND path = ?", owner, path)
        return found[0] if found else None

    def sessions(self) -> list[SessionRecord]:
        """All sessions, oldest first."""
        return self._sessions("ORDER BY created_at, session_id")

    def sessions_of_kernel(self, kernel_id: str) -> list[SessionRecord]:
        """The sessions that name a kernel."""
        return self._sessions("WHERE kernel_id = ?", kernel_id)

    def _sessions(self, tail: str, *parameters: str) -> list[SessionRecord]:
        rows = self._db.execute(f"SELECT {_SESSION_COLUMNS} FROM sessions {tail}", parameters)  # noqa: S608
        return [SessionRecord(*row) for row in rows]

    def remove_session(self, session_id: str) -> None:
        """Forget a session; its kernel is not touched."""
        self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
