"""The journal of a kernel under ``kill -9`` at random points: what was published is there, once.

A process writes messages and records requests, new, repeated and out of order, and is killed while
some are under way. The next one must have every message that was answered, under its number, with
its bytes, or an omission of retention (never of replies); no number twice; and must know each
request that was taken for new, so that none is carried out twice.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.crash.journal_victim import RETENTION, answer, opened, printed
from tests.crash.machines import run
from tests.crash.victim import Victim

from clouditia.protocol.messages import Message, encode_v1
from clouditia.protocol.outbox import Omitted
from clouditia_gateway.host.recent import RecentMessages

REQUESTS = st.integers(0, 30).map("cell{}".format)
STEPS = st.one_of(
    st.tuples(st.just("say"), st.just(""), st.integers(1, 6), st.integers(1, 20_000)),
    st.tuples(st.just("say"), st.just(""), st.integers(1, 3), st.integers(1, 100)),
    st.tuples(st.just("ask"), REQUESTS, st.sampled_from(["one", "other"]), st.integers(1, 99)),
    st.tuples(st.just("answer"), REQUESTS),
)


def messages_of(step: tuple[Any, ...]) -> list[Message]:
    if step[0] == "say":
        return [printed(f"{step[1]}.{number}", step[3]) for number in range(step[2])]
    return answer(step[1]) if step[0] == "answer" else []


class JournalUnderKills(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="crash-")
        self.directory = Path(self._folder.name) / "journal"
        self.victim: Victim | None = None
        self.said: dict[int, Message] = {}  # by number, as far as it was answered
        self.new: Counter[str] = Counter()  # how often each request was taken for new
        self.names = 0

    def alive(self) -> Victim:
        if self.victim is None:
            self.victim = Victim("tests.crash.journal_victim", self.directory)
        return self.victim

    def named(self, steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Give what is said texts that no other message has."""
        first, self.names = self.names, self.names + len(steps)
        return [
            (step[0], f"text {first + place}", *step[2:]) if step[0] == "say" else step
            for place, step in enumerate(steps)
        ]

    def note(self, steps: list[tuple[Any, ...]], answers: list[Any]) -> None:
        for step, found in zip(steps, answers, strict=False):
            if step[0] == "ask":
                self.new[step[1]] += found
            for place, message in enumerate(messages_of(step)):
                assert found + place not in self.said, "a number was given twice"
                self.said[found + place] = message

    @rule(steps=st.lists(STEPS, min_size=1, max_size=15))
    def work(self, steps: list[tuple[Any, ...]]) -> None:
        steps = self.named(steps)
        self.note(steps, self.alive().do(steps))

    @rule(steps=st.lists(STEPS, min_size=1, max_size=30), after=st.integers(0, 30))
    def kill(self, steps: list[tuple[Any, ...]], after: int) -> None:
        steps = self.named(steps)
        answers = self.alive().die_during(steps, after)
        self.victim = None
        self.note(steps, answers)
        self.check(steps[len(answers) :])

    def check(self, unanswered: list[tuple[Any, ...]]) -> None:
        """Read everything as the next host does."""
        journal = opened(self.directory)
        journal._recent = RecentMessages()
        try:
            on_disk = sum(path.stat().st_size for path in self.directory.glob("*.journal"))
            assert on_disk <= RETENTION.max_bytes + 150_000  # and what was written last
            for seq, message in self.said.items():
                found = journal.read(seq)
                if isinstance(found, Omitted):
                    assert found.reason == "retention"
                    assert b"stream" in bytes(message.header)
                else:
                    assert b"".join(found) == b"".join(encode_v1(message)), seq
            self.check_unanswered(journal, unanswered)
            for msg_id, count in self.new.items():
                assert count <= 1, f"{msg_id} was carried out {count} times"
                assert not count or journal.index.known(msg_id) is not None
        finally:
            journal.close()

    def check_unanswered(self, journal: Any, unanswered: list[tuple[Any, ...]]) -> None:
        """What was under way may be there, in order and whole, up to some message."""
        coming = [message for step in unanswered for message in messages_of(step)]
        first = max(self.said, default=0) + 1
        for seq, message in enumerate(coming, first):
            if seq >= journal.next_seq:
                return
            found = journal.read(seq)
            if isinstance(found, Omitted):
                assert found.reason in ("retention", "damaged")
                return
            assert b"".join(found) == b"".join(encode_v1(message))
            self.said[seq] = message

    @rule()
    def end(self) -> None:
        self.alive().close()
        self.victim = None
        self.check([])

    def teardown(self) -> None:
        if self.victim is not None:
            self.victim.close()
        self._folder.cleanup()


def test_a_killed_host_has_every_message_once_and_carries_no_request_out_twice() -> None:
    run(JournalUnderKills, max_examples=6, steps=6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_killed_hosts_have_every_message_once() -> None:
    run(JournalUnderKills, max_examples=150, steps=15)
