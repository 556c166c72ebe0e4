from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from clouditia.errors import ConfigError
from clouditia_gateway.records import KernelRecord
from clouditia_gateway.schema import MIGRATIONS, VERSION
from clouditia_gateway.store import SessionRecord, Store

NOW = "2026-01-01T00:00:00.000000Z"


def kernel(number: int, owner: str = "ada", token: str = "t") -> KernelRecord:
    return KernelRecord(
        f"k{number}", owner, "python3", "Python 3", "", f"/x/k/{number:08x}", 1, token, "", NOW
    )


def session(number: int, kernel_id: str, path: str, owner: str = "ada") -> SessionRecord:
    return SessionRecord(f"s{number}", owner, path, "", "notebook", kernel_id, NOW)


def test_a_database_of_the_first_version_gets_scopes_and_its_keys_keep_all_rights(
    tmp_path: Path,
) -> None:
    path = tmp_path / "g.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO keys VALUES ('k', 'ada', 0, 'x', 'now', NULL, NULL, NULL)")
        db.commit()
    with closing(Store(path)) as store:
        assert [(key.user, key.scope) for key in list(store.keys())] == [("ada", "all")]


def test_a_database_of_a_newer_program_is_refused_in_a_sentence_and_not_touched(
    tmp_path: Path,
) -> None:
    path = tmp_path / "g.sqlite3"
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ConfigError, match=f"newer Clouditia .*{VERSION + 1}"):
        Store(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    path.write_text("not a database, but long enough to be read as a header" * 20)
    with pytest.raises(ConfigError, match="cannot be used"):
        Store(path)


def test_every_file_of_the_database_is_private(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.set_setting("a", "b")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_what_was_committed_survives_a_process_that_just_stops(tmp_path: Path) -> None:
    first = Store(tmp_path / "g.sqlite3")
    first.add_kernel(kernel(1))
    with closing(Store(tmp_path / "g.sqlite3")) as second:  # the first was never closed
        assert [record.kernel_id for record in second.kernels()] == ["k1"]
    first.close()


def test_a_kernel_and_its_token_are_recorded_together_or_not_at_all(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.add_kernel(kernel(1, token="same"))
        with pytest.raises(sqlite3.IntegrityError):
            store.add_kernel(kernel(2, token="same"))
        assert store.kernel("k2") is None


def test_a_kernels_directory_moves_with_the_state_directory(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with closing(Store(old / "g.sqlite3")) as store:
        store.add_kernel(kernel(1))
        assert store.kernels()[0].directory == str(old / "k" / "00000001")
    old.rename(new)
    with closing(Store(new / "g.sqlite3")) as store:
        assert store.kernels()[0].directory == str(new / "k" / "00000001")


def test_raising_the_fence_keeps_old_tokens_known_as_old(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.add_kernel(kernel(1, token="first"))
        assert store.raise_fence("k1", "second") == 2
        assert store.host_token_fence("k1", "first") == 1
        assert store.host_token_fence("k1", "second") == 2
        assert store.host_token_fence("k1", "other") is None
        assert store.host_token_fence("k2", "first") is None


def test_a_tombstone_is_set_once_and_ends_sessions(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.add_kernel(kernel(1))
        store.save_session(session(1, "k1", "a.ipynb"))
        assert store.end_kernel("k1", NOW)
        assert not store.end_kernel("k1", NOW)
        assert store.live_kernels() == []
        assert store.sessions() == []
        assert store.kernels()[0].ended_at == NOW


def test_removing_a_kernel_removes_its_tokens_and_sessions(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.add_kernel(kernel(1, token="t1"))
        store.save_session(session(1, "k1", "a.ipynb"))
        store.remove_kernel("k1")
        assert store.host_token_fence("k1", "t1") is None
        assert store.session("s1") is None


def test_two_owners_have_the_same_path_but_one_owner_has_it_once(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "g.sqlite3")) as store:
        store.add_kernel(kernel(1))
        store.save_session(session(1, "k1", "Untitled.ipynb", "ada"))
        store.save_session(session(2, "k1", "Untitled.ipynb", "bob"))
        with pytest.raises(sqlite3.IntegrityError):
            store.save_session(session(3, "k1", "Untitled.ipynb", "ada"))
        assert len(store.sessions()) == 2
