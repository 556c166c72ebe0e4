"""What stock clients may send, what they get to see, and the small rules around it."""

from __future__ import annotations

import json

import pytest

from clouditia.protocol.messages import Message, decode_json, decode_v1, encode_v1
from clouditia_gateway.channels.close_codes import MAX_REASON_BYTES, fit_reason, is_sendable
from clouditia_gateway.channels.origin import is_origin_allowed
from clouditia_gateway.channels.stock_audience import Audience
from clouditia_gateway.channels.stock_forms import LegacyForm, Refused, V1Form
from clouditia_gateway.channels.stock_notices import death_epoch, gap_frame, status_frame


def v1(channel: str = "shell", header: bytes = b'{"msg_id":"m","session":"s"}') -> bytes:
    return b"".join(encode_v1(Message(channel, header, b"{}", b"{}", b"{}", (b"buffer",))))


def test_a_v1_request_is_passed_on_as_the_very_bytes_that_came() -> None:
    frame = v1()
    request = V1Form().read(frame)
    assert request.parts[0] is frame
    assert (request.session, request.msg_id) == ("s", "m")


def test_a_legacy_request_becomes_a_v1_frame() -> None:
    text = json.dumps({"header": {"msg_id": "m"}, "content": {"a": 1}, "channel": "control"})
    request = LegacyForm().read(text)
    message = decode_v1(b"".join(request.parts))
    assert message.channel == "control"
    assert decode_json(message.content) == {"a": 1}
    assert (request.session, request.msg_id) == ("", "m")


@pytest.mark.parametrize("channel", ["iopub", "clouditia"])
def test_clients_may_not_send_on_the_kernels_own_channels(channel: str) -> None:
    with pytest.raises(Refused, match=channel) as refused:
        V1Form().read(v1(channel))
    assert refused.value.close_code == 1008


@pytest.mark.parametrize("header", [b"{}", b'{"msg_id":""}', b'{"msg_id":"m","session":[]}', b"[]"])
def test_a_header_without_msg_id_is_refused(header: bytes) -> None:
    with pytest.raises(Refused):
        V1Form().read(v1(header=header))


def test_text_on_v1_has_its_own_close_code() -> None:
    with pytest.raises(Refused) as refused:
        V1Form().read("{}")
    assert refused.value.close_code == 1003


def test_replies_concern_the_session_that_asked_and_the_msg_id_where_there_is_none() -> None:
    audience = Audience("url-session")
    assert audience.concerns({"session": "url-session", "msg_id": "x"})
    assert not audience.concerns({"session": "other", "msg_id": "m1"})
    audience.asked("other", "m1")
    assert audience.concerns({"session": "other", "msg_id": "unseen"})
    assert audience.concerns({"msg_id": "m1"})
    assert not audience.concerns({"msg_id": "m2"})
    assert not audience.concerns({})


def test_an_audience_remembers_a_bounded_number_of_requests() -> None:
    audience = Audience("s")
    for number in range(10_001):
        audience.asked("s", f"m{number}")
    assert not audience.concerns({"msg_id": "m0"})
    assert audience.concerns({"msg_id": "m10000"})


def test_a_status_has_no_parent_and_is_a_valid_message() -> None:
    message = decode_v1(status_frame("dead", "s"))
    assert message.channel == "iopub"
    assert decode_json(message.parent_header) == {}
    assert decode_json(message.content) == {"execution_state": "dead"}
    assert decode_json(message.header)["msg_type"] == "status"


def test_a_gap_says_how_many_messages_are_gone_and_why() -> None:
    content = decode_json(decode_v1(gap_frame({"reason": "retention"}, 12, "s")).content)
    assert content["name"] == "stderr"
    assert "12" in content["text"]
    assert "retention" in content["text"]


@pytest.mark.parametrize(
    ("msg_type", "content", "epoch"),
    [
        ("kernel_state", {"epoch": 3, "execution_state": "dead"}, 3),
        ("kernel_state", {"epoch": 3, "execution_state": "restarting"}, None),
        ("kernel_exited", {"epoch": 3}, None),
        ("kernel_ended", {"reason": "shutdown"}, 2**63),
        ("command_reply", {}, None),
    ],
)
def test_only_the_end_of_a_kernel_is_its_death(
    msg_type: str, content: dict[str, object], epoch: int | None
) -> None:
    assert death_epoch(msg_type, content) == epoch


@pytest.mark.parametrize(
    ("origin", "host", "allow", "pattern", "expected"),
    [
        (None, "gw:1", "", "", True),
        ("http://gw:1", "gw:1", "", "", True),
        ("http://GW:1", "gw:1", "", "", True),
        ("http://gw:2", "gw:1", "", "", False),
        ("null", "gw:1", "", "", False),
        ("https://a.example", "gw:1", "https://a.example", "", True),
        ("https://a.example.evil.com", "gw:1", "https://a.example", "", False),
        ("https://x.a.example", "gw:1", "", r"https://.*\.example", True),
        ("https://x.example.evil.com", "gw:1", "", r"https://.*\.example", False),
        ("https://anything", "gw:1", "*", "", True),
    ],
)
def test_an_origin_is_matched_whole(
    origin: str | None, host: str, allow: str, pattern: str, expected: bool
) -> None:
    allowed = is_origin_allowed(origin, host, allow_origin=allow, allow_origin_pat=pattern)
    assert allowed is expected


def test_a_reason_is_cut_to_what_a_close_frame_holds_on_a_character_border() -> None:
    assert fit_reason("short") == "short"
    cut = fit_reason("é" * 100)
    assert cut == "é" * (MAX_REASON_BYTES // 2)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(None, False), (1000, True), (1005, False), (1006, False), (4404, True), (5000, False)],
)
def test_only_private_codes_and_plain_goodbyes_are_passed_on(
    code: int | None, expected: bool
) -> None:
    assert is_sendable(code) is expected
