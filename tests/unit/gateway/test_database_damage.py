"""A database that is not what was written is refused with a way out, and never begun anew."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.gateway.test_store import NOW, kernel, session
from tests.unit.host.test_journal_files import files_limited_to

from clouditia.errors import ConfigError
from clouditia_gateway import row_sums, schema
from clouditia_gateway.errors import StorageError, http_status
from clouditia_gateway.store import KeyRecord, Store

KERNELS = 6


def filled(path: Path) -> None:
    with closing(Store(path)) as store:
        for number in range(KERNELS):
            store.add_kernel(kernel(number, token=f"t{number}" * 30))
            store.save_session(session(number, f"k{number}", f"p{number}.ipynb"))
            store.add_key(KeyRecord(f"{number:012x}", "ada", False, "ab" * 32, NOW))
        store.set_setting("cookie_secret", "c" * 64)


def content(store: Store) -> list[object]:
    fences = [store.host_token_fence(f"k{number}", f"t{number}" * 30) for number in range(KERNELS)]
    return [store.keys(), store.kernels(), store.sessions(), store.setting("cookie_secret"), fences]


def flip_and_open(path: Path, raw: bytes, places: range) -> int:
    """Flip one bit at each place: the database is refused, or nothing of it has changed."""
    path.write_bytes(raw)
    with closing(Store(path)) as store:
        expected = content(store)
    refused = 0
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 0x04
        path.write_bytes(damaged)
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        try:
            store = Store(path)
        except ConfigError:
            refused += 1
            continue
        with closing(store):
            assert content(store) == expected, f"byte {place}"
    return refused


def test_a_flipped_bit_changes_nothing_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    raw = path.read_bytes()
    assert flip_and_open(path, raw, range(7, len(raw), 397)) > len(raw) // 397 // 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_any_flipped_bit_changes_nothing_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    raw = path.read_bytes()
    assert flip_and_open(path, raw, range(len(raw))) > len(raw) // 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"p3.ipynb", b"p9.ipynb"),  # a row
        (b"CREATE TABLE kernels", b"CREATE TABLE kornels"),
        (b"secret_sha256 TEXT", b"secret_sha257 TEXT"),
        (b"SQLite format 3", b"SQLite format 4"),
    ],
)
def test_the_refusal_says_what_is_damaged_and_what_to_do(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        Store(path)
    assert str(path) in refused.value.message
    assert "restore" in refused.value.hint
    assert path.read_bytes() == raw.replace(old, new)  # left alone


def test_a_row_that_was_changed_by_hand_can_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE keys SET user = 'eve' WHERE key_id = '000000000001'")
    with pytest.raises(ConfigError, match="table keys"):
        Store(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(row_sums.FORGET)
    with closing(Store(path)) as store:
        assert store.keys()[1].user == "eve"
    with closing(Store(path)):
        pass


def test_a_row_that_is_gone_or_new_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    for statement in (
        "DELETE FROM sessions WHERE session_id = 's1'",
        "INSERT INTO settings VALUES ('a', 'b')",
    ):
        copy = tmp_path / "copy.sqlite3"
        shutil.copy(path, copy)
        with closing(sqlite3.connect(copy)) as db, db:
            db.execute(statement)
        with pytest.raises(ConfigError, match="not what was written"):
            Store(copy)


@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize("beside", ["admin.key", "k/00000001"])
def test_a_database_that_vanished_is_not_begun_anew(
    tmp_path: Path, beside: str, *, is_empty: bool
) -> None:
    path = tmp_path / "gateway.sqlite3"
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).touch()
    if is_empty:
        path.touch()
    with pytest.raises(ConfigError, match="the state directory is in use") as refused:
        Store(path)
    assert "restore" in refused.value.hint
    assert path.exists() == is_empty


def test_a_full_disk_fails_the_request_and_nothing_after_it(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    with closing(Store(path)) as store:
        store.add_kernel(kernel(1))
        size = path.with_name("g.sqlite3-wal").stat().st_size
        with files_limited_to(size):
            actions: list[Callable[[], None]] = [
                lambda: store.add_kernel(kernel(2, token="other")),
                lambda: store.save_session(session(1, "k1", "a.ipynb")),
                lambda: store.set_setting("x" * 9000, "y"),
            ]
            for action in actions:
                with pytest.raises(StorageError, match="cannot write down") as full:
                    action()
                assert http_status(full.value) == 507
                assert full.value.retryable
            assert store.kernel("k1") is not None
        store.add_kernel(kernel(2, token="other"))
        store.save_session(session(1, "k1", "a.ipynb"))
        assert [record.kernel_id for record in store.kernels()] == ["k1", "k2"]


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        schema_of_old = schema.MIGRATIONS[0]
        for statement in schema_of_old:
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO settings VALUES ('port', '1234')")
    with closing(Store(path)) as store:
        assert store.setting("port") == "1234"
        store.set_setting("port", "4321")
    with closing(Store(path)) as store:
        assert store.setting("port") == "4321"


#: Opens the database with a long migration on top of this program's, and says how far it is.
UPGRADE = """
import sqlite3, sys
from pathlib import Path
from clouditia_gateway import schema

path = Path(sys.argv[1])
steps = [f"CREATE TABLE extra_{n} AS SELECT * FROM keys" for n in range(300)]
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA cache_size = 8")  # so that it writes to the disk before it commits
def told(done):
    if done.startswith("CREATE TABLE"):
        print("step", flush=True)
db.set_trace_callback(told)
schema.migrate(db, path, (*schema.MIGRATIONS, (*steps, "ALTER TABLE keys ADD COLUMN extra TEXT")))
print("done", flush=True)
input()
"""


@pytest.mark.parametrize("steps", [1, 20, 150, 299, 302])
def test_an_upgrade_that_is_killed_leaves_the_old_or_the_new_tables(
    tmp_path: Path, steps: int
) -> None:
    path = tmp_path / "g.sqlite3"
    filled(path)
    with subprocess.Popen(
        [sys.executable, "-c", UPGRADE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as upgrade:
        assert upgrade.stdout is not None
        for _ in range(steps):
            if upgrade.stdout.readline() == "done\n":
                break
        upgrade.kill()
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        extra = sum(name.startswith("extra_") for name in tables)
        assert db.execute("SELECT count(*) FROM keys").fetchone() == (KERNELS,)
    assert (version, extra) in ((schema.VERSION, 0), (schema.VERSION + 1, 300))
    if version == schema.VERSION:
        with closing(Store(path)) as store:
            assert len(store.kernels()) == KERNELS
