"""The gateway's database under ``kill -9`` at random points: every answered change is there.

A process changes kernels, owners, sessions, keys and settings and is killed while changes are under
way. What is found then must be what the model says after some number of changes: at least all that
were answered, at most all that were sent, and none by half.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.crash.machines import run
from tests.crash.store_victim import NOW
from tests.crash.victim import Victim

from clouditia_gateway.store import Store

KERNELS = st.sampled_from([f"k{number}" for number in range(4)])
OWNERS = st.sampled_from(["ada", "bob"])
TOKENS = st.integers(0, 40).map("t{}".format)
SESSIONS = st.sampled_from(["s1", "s2", "s3"])
PATHS = st.sampled_from(["a.ipynb", "b.ipynb"])
KEYS = st.sampled_from(["key1", "key2", "key3"])
CHANGES = st.one_of(
    st.tuples(st.just("add_kernel"), KERNELS, OWNERS, TOKENS),
    st.tuples(st.just("raise_fence"), KERNELS, TOKENS),
    st.tuples(st.just("end_kernel"), KERNELS, st.just(NOW)),
    st.tuples(st.just("remove_kernel"), KERNELS),
    st.tuples(st.just("save_session"), SESSIONS, OWNERS, PATHS, KERNELS),
    st.tuples(st.just("remove_session"), SESSIONS),
    st.tuples(st.just("add_key"), KEYS, OWNERS),
    st.tuples(st.just("revoke_key"), KEYS, st.just(NOW)),
    st.tuples(st.just("set_setting"), st.just("port"), st.text(max_size=3)),
)


class Model:
    """What the database holds, as plain dictionaries."""

    def __init__(self) -> None:
        self.kernels: dict[str, list[Any]] = {}  # owner, fence, token, ended
        self.tokens: dict[str, tuple[str, int]] = {}  # kernel, fence
        self.sessions: dict[str, tuple[str, str, str]] = {}  # owner, path, kernel
        self.keys: dict[str, list[Any]] = {}  # owner, revoked
        self.port: str | None = None

    def after(self, changes: list[tuple[str, ...]]) -> Model:
        changed = deepcopy(self)
        for name, *arguments in changes:
            getattr(changed, name)(*arguments)
        return changed

    def add_kernel(self, kernel: str, owner: str, token: str) -> None:
        if kernel not in self.kernels and token not in self.tokens:
            self.kernels[kernel] = [owner, 1, token, False]
            self.tokens[token] = (kernel, 1)

    def raise_fence(self, kernel: str, token: str) -> None:
        if kernel in self.kernels and token not in self.tokens:
            self.kernels[kernel][1] += 1
            self.kernels[kernel][2] = token
            self.tokens[token] = (kernel, self.kernels[kernel][1])

    def end_kernel(self, kernel: str, _now: str) -> None:
        if kernel in self.kernels:
            self.kernels[kernel][3] = True
        self._end_sessions(kernel)

    def remove_kernel(self, kernel: str) -> None:
        self.kernels.pop(kernel, None)
        self.tokens = {key: value for key, value in self.tokens.items() if value[0] != kernel}
        self._end_sessions(kernel)

    def _end_sessions(self, kernel: str) -> None:
        self.sessions = {key: value for key, value in self.sessions.items() if value[2] != kernel}

    def save_session(self, session: str, owner: str, path: str, kernel: str) -> None:
        others = [value[:2] for key, value in self.sessions.items() if key != session]
        if kernel in self.kernels and (owner, path) not in others:
            self.sessions[session] = (owner, path, kernel)

    def remove_session(self, session: str) -> None:
        self.sessions.pop(session, None)

    def add_key(self, key: str, owner: str) -> None:
        self.keys.setdefault(key, [owner, False])

    def revoke_key(self, key: str, _now: str) -> None:
        if key in self.keys:
            self.keys[key][1] = True

    def set_setting(self, _name: str, value: str) -> None:
        self.port = value

    def content(self) -> list[Any]:
        return [self.kernels, self.tokens, self.sessions, self.keys, self.port]


def content(path: Path) -> list[Any]:
    """The database as the next gateway finds it; it checks all pages and rows as it opens."""
    with closing(Store(path)) as store:
        kernels = {
            each.kernel_id: [each.owner, each.fence, each.token_sha256, each.ended_at is not None]
            for each in store.kernels()
        }
        tokens = {
            token: (kernel_id, fence)
            for kernel_id in kernels
            for token in map("t{}".format, range(41))
            if (fence := store.host_token_fence(kernel_id, token)) is not None
        }
        sessions = {
            each.session_id: (each.owner, each.path, each.kernel_id) for each in store.sessions()
        }
        records = store.keys()
        keys = {each.key_id: [each.user, each.revoked_at is not None] for each in records}
        return [kernels, tokens, sessions, keys, store.setting("port")]


class StoreUnderKills(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="crash-")
        self.path = Path(self._folder.name) / "gateway.sqlite3"
        self.model = Model()
        self.victim: Victim | None = None

    def alive(self) -> Victim:
        if self.victim is None:
            self.victim = Victim("tests.crash.store_victim", self.path)
        return self.victim

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=20))
    def change(self, changes: list[tuple[str, ...]]) -> None:
        self.alive().do(changes)
        self.model = self.model.after(changes)

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=30), after=st.integers(0, 30))
    def kill(self, changes: list[tuple[str, ...]], after: int) -> None:
        answered = len(self.alive().die_during(changes, after))
        self.victim = None
        possible = [self.model.after(changes[:count]) for count in range(len(changes) + 1)]
        found = content(self.path)
        matching = [model for model in possible[answered:] if model.content() == found]
        assert matching, f"{answered} of {len(changes)} changes were answered: {found}"
        self.model = matching[0]

    @rule()
    def end(self) -> None:
        self.alive().close()
        self.victim = None

    @invariant()
    def nothing_is_damaged(self) -> None:
        if self.victim is None and self.path.exists():
            assert content(self.path) == self.model.content()
            with closing(sqlite3.connect(self.path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert db.execute("PRAGMA foreign_key_check").fetchall() == []

    def teardown(self) -> None:
        if self.victim is not None:
            self.victim.close()
        self._folder.cleanup()


def test_a_killed_gateway_has_written_down_what_it_answered() -> None:
    run(StoreUnderKills, max_examples=6, steps=6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_killed_gateways_have_written_down_what_they_answered() -> None:
    run(StoreUnderKills, max_examples=150, steps=15)
