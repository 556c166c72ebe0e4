"""The way back for replies."""

from __future__ import annotations

from clouditia.bridge.routing import RequestTable, Route

SHELL = Route("shell", [b"a"])


def test_a_reply_goes_to_the_sender_once() -> None:
    table = RequestTable(10)
    table.remember("m", SHELL)
    assert table.find("m") == SHELL
    assert table.take("m", "shell") == SHELL
    assert table.take("m", "shell") is None


def test_a_reply_on_another_channel_belongs_to_nobody() -> None:
    table = RequestTable(10)
    table.remember("m", SHELL)
    assert table.take("m", "control") is None
    assert table.take("m", "shell") == SHELL


def test_a_repeated_request_is_answered_where_it_was_last_asked() -> None:
    table = RequestTable(10)
    table.remember("m", SHELL)
    table.remember("m", Route("shell", [b"b"]))
    assert table.take("m", "shell") == Route("shell", [b"b"])
    assert len(table) == 0


def test_the_oldest_requests_are_forgotten_above_the_limit() -> None:
    table = RequestTable(2)
    for msg_id in ("first", "second", "first", "third"):
        table.remember(msg_id, SHELL)
    assert table.find("second") is None
    assert table.find("first") == SHELL
    assert table.find("third") == SHELL
