"""Which requests a journal knows: finished by reply and idle, run once, remembered cheaply."""

from __future__ import annotations

import tracemalloc

import pytest

from clouditia.errors import RemoteProtocolError
from clouditia.protocol import journal_requests
from clouditia.protocol.journal import Kind, Record, Tag, UpRequest, up_record
from clouditia.protocol.journal_requests import KnownRequest, RequestLog


def ask(
    log: RequestLog,
    msg_id: str,
    *,
    seq: int = 1,
    client_id: str = "c",
    up_seq: int = 1,
    msg_type: str = "execute_request",
    channel: str = "shell",
) -> None:
    request = UpRequest(client_id, up_seq, msg_id, msg_type, channel)
    log.add(up_record(request, next_seq=seq, epoch=3, time_ns=0))


@pytest.mark.parametrize("tags", [(Tag.REPLY, Tag.IDLE), (Tag.IDLE, Tag.REPLY)])
def test_a_request_is_finished_only_by_reply_and_idle(tags: tuple[Tag, Tag]) -> None:
    log = RequestLog()
    ask(log, "r", seq=5)
    log.answered("r", tags[0], 6)
    log.answered("r", tags[0], 7)
    (state,) = log.unfinished()
    assert (state.replied, state.idle_seen) == (tags[0] is Tag.REPLY, tags[0] is Tag.IDLE)
    assert not state.is_finished
    assert log.known("r") == KnownRequest(5, None)
    log.answered("r", tags[1], 9)
    assert log.unfinished() == []
    assert log.known("r") == KnownRequest(5, 9)
    log.answered("r", tags[1], 10)
    assert log.known("r") == KnownRequest(5, 9)


def test_a_request_is_remembered_with_who_asked_and_where_it_begins() -> None:
    log = RequestLog()
    ask(log, "r", seq=2, client_id="me", up_seq=7, channel="control", msg_type="debug_request")
    (state,) = log.unfinished()
    assert (state.msg_id, state.msg_type, state.channel) == ("r", "debug_request", "control")
    assert (state.client_id, state.up_seq, state.epoch, state.first_seq) == ("me", 7, 3, 2)


def test_unfinished_requests_stand_in_the_order_in_which_they_came() -> None:
    log = RequestLog()
    for msg_id in "abc":
        ask(log, msg_id)
    for tag in (Tag.REPLY, Tag.IDLE):
        log.answered("b", tag, 2)
    assert [state.msg_id for state in log.unfinished()] == ["a", "c"]


def test_a_known_request_that_comes_again_moves_only_its_clients_number() -> None:
    log = RequestLog()
    ask(log, "r", client_id="one", up_seq=1)
    ask(log, "r", seq=4, client_id="two", up_seq=4)
    assert log.known("r") == KnownRequest(1, None)
    assert [state.client_id for state in log.unfinished()] == ["one"]
    assert (log.received_from("one"), log.received_from("two")) == (1, 4)
    for tag in (Tag.REPLY, Tag.IDLE):
        log.answered("r", tag, 8)
    ask(log, "r", seq=9, client_id="two", up_seq=5)
    assert log.unfinished() == []
    assert log.known("r") == KnownRequest(1, 8)
    assert log.received_from("two") == 5


def test_a_clients_number_never_goes_back() -> None:
    log = RequestLog()
    ask(log, "a", up_seq=9)
    ask(log, "b", up_seq=3)
    assert log.received_from("c") == 9
    assert log.received_from("stranger") == 0


def test_answers_to_nobody_change_nothing() -> None:
    log = RequestLog()
    ask(log, "r")
    for msg_id in ("other", ""):
        log.answered(msg_id, Tag.REPLY, 2)
    assert [state.replied for state in log.unfinished()] == [False]
    assert log.known("other") is None


@pytest.mark.parametrize(
    ("channel", "msg_type"),
    [("shell", "comm_msg"), ("stdin", "input_reply"), ("clouditia", "command")],
)
def test_a_message_without_a_reply_is_known_but_never_pending(channel: str, msg_type: str) -> None:
    log = RequestLog()
    ask(log, "m", seq=4, channel=channel, msg_type=msg_type)
    assert log.unfinished() == []
    assert log.known("m", msg_type) == KnownRequest(4, None)
    assert log.received_from("c") == 1


def test_only_the_latest_messages_without_a_reply_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_requests, "MAX_REPLYLESS_IDS", 2)
    log = RequestLog()
    for number, msg_id in enumerate("abc", 1):
        ask(log, msg_id, up_seq=number, msg_type="comm_msg")
    assert [log.known(msg_id, "comm_msg") is not None for msg_id in "abc"] == [False, True, True]
    assert log.received_from("c") == 3


@pytest.mark.parametrize("is_finished", [False, True])
def test_the_same_id_with_another_type_is_another_request(is_finished: bool) -> None:
    log = RequestLog()
    ask(log, "s_0", seq=1, msg_type="kernel_info_request")
    if is_finished:
        log.answered("s_0", Tag.REPLY, 2)
        log.answered("s_0", Tag.IDLE, 3)
    assert log.known("s_0", "shutdown_request") is None
    ask(log, "s_0", seq=4, up_seq=2, msg_type="shutdown_request", channel="control")
    assert log.known("s_0", "shutdown_request") == KnownRequest(4, None)
    assert [state.channel for state in log.unfinished()] == ["control"]
    assert (log.known("s_0", "kernel_info_request") is not None) == is_finished
    assert log.known("s_0", "comm_msg") is None


def test_odd_ids_are_told_apart() -> None:
    log = RequestLog()
    ids = ["", "\ud800", "\ud801", "x" * 10_000, "x" * 10_001]
    for number, msg_id in enumerate(ids):
        ask(log, msg_id, seq=number + 1)
        for tag in (Tag.REPLY, Tag.IDLE):
            log.answered(msg_id, tag, number + 100)
    assert [log.known(msg_id) for msg_id in ids] == [
        KnownRequest(number + 1, number + 100) for number in range(len(ids))
    ]


def test_finished_requests_cost_little_for_the_life_of_the_kernel() -> None:
    log, count = RequestLog(), 2000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        msg_id = f"0f6cbbf6-9a1e-4a0e-8f6e_{number:010}"
        ask(log, msg_id, seq=1 + number, up_seq=1 + number)
        log.answered(msg_id, Tag.REPLY, 1 + number)
        log.answered(msg_id, Tag.IDLE, 1 + number)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert log.unfinished() == []
    assert used / count < 300


def test_a_damaged_request_record_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="no 'client_id'"):
        RequestLog().add(Record(Kind.UP, 1, 1, 1, (b"{}",)))
