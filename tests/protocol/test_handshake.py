"""Greetings: what is read, what is refused, and where a stream goes on."""

from __future__ import annotations

import pytest

from clouditia.errors import (
    RemoteProtocolError,
    VersionMismatch,
)
from clouditia.protocol import frames
from clouditia.protocol.handshake import Hello, choose_protocol, parse_hello
from clouditia.protocol.link import (
    resume_point,
)


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (Hello("c", received=7), (8, 0)),
        (Hello("c", received=2), (3, 1)),
        (Hello("c", received=99), (11, 0)),
        (Hello("c", start="latest"), (11, 0)),
        (Hello("c", start="unfinished"), (9, 0)),
        (Hello("c", start=6), (6, 0)),
        (Hello("c", start=0), (1, 3)),
        (Hello("c", start="resume"), (6, 0)),
    ],
)
def test_the_host_goes_on_where_the_hello_asks(hello: Hello, expected: tuple[int, int]) -> None:
    point = resume_point(hello, remembered=5, first_seq=4, next_seq=11, unfinished=9)
    assert point == expected


def test_a_new_client_resumes_at_the_oldest_unfinished_request() -> None:
    hello = Hello("new")
    assert resume_point(hello, remembered=None, first_seq=1, next_seq=11, unfinished=9) == (9, 0)


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"client_id": ""}, "1 to 200"),
        ({"client_id": "x" * 201}, "1 to 200"),
        ({"client_id": None}, "must be a string"),
        ({"start": "yesterday"}, "start must be"),
        ({"protocol": [1]}, "lowest, highest"),
        ({"window": True}, "window must be"),
        ({"received": 2**63}, "received must be"),
    ],
)
def test_a_malformed_hello_is_refused(change: dict[str, object], saying: str) -> None:
    fields = {**Hello("c")._asdict(), **change}
    with pytest.raises(RemoteProtocolError, match=saying):
        parse_hello(frames.encode_json_frame(frames.HELLO, fields))


def test_a_hello_survives_the_wire() -> None:
    hello = Hello("c", "k", 3, 2, "latest", 99, "bridge")
    assert parse_hello(hello.encode()) == hello
    with pytest.raises(RemoteProtocolError, match="must be HELLO"):
        parse_hello(frames.encode_ping(1))


def test_versions_meet_at_the_highest_common_one_or_not_at_all() -> None:
    assert choose_protocol((1, 5), (2, 3)) == 3
    assert choose_protocol((1, 2), (2, 3)) == 2
    with pytest.raises(VersionMismatch, match="update the client"):
        choose_protocol((1, 1), (2, 3))
    with pytest.raises(VersionMismatch, match="update the gateway side"):
        choose_protocol((4, 5), (2, 3))
