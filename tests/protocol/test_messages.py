"""Message framings: what goes in comes out, and what cannot be is refused before allocating."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.messages import (
    CHANNELS,
    DELIMITER,
    Message,
    Signer,
    decode_json,
    decode_legacy,
    decode_v1,
    encode_json,
    encode_legacy,
    encode_v1,
    peek_channel,
)

json_objects = st.dictionaries(
    st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=4
)
messages = st.builds(
    Message,
    channel=st.sampled_from(sorted(CHANNELS)),
    header=json_objects.map(encode_json),
    parent_header=json_objects.map(encode_json),
    metadata=json_objects.map(encode_json),
    content=json_objects.map(encode_json),
    buffers=st.lists(st.binary(max_size=50), max_size=4).map(tuple),
)


def plain(message: Message) -> tuple[str, list[bytes], list[bytes]]:
    return message.channel, [bytes(p) for p in message[1:5]], [bytes(b) for b in message.buffers]


@given(messages)
def test_v1_frames_round_trip(message: Message) -> None:
    frame = b"".join(bytes(part) for part in encode_v1(message))
    assert plain(decode_v1(frame)) == plain(message)
    assert peek_channel(frame) == message.channel
    assert message.size == sum(map(len, plain(message)[1])) + sum(map(len, plain(message)[2]))


@given(messages)
def test_legacy_frames_round_trip_as_json_values(message: Message) -> None:
    back = decode_legacy(encode_legacy(message))
    assert back.channel == message.channel
    assert [json.loads(bytes(p)) for p in back[1:5]] == [json.loads(bytes(p)) for p in message[1:5]]
    assert [bytes(b) for b in back.buffers] == [bytes(b) for b in message.buffers]


@given(messages, st.binary(min_size=1, max_size=40))
def test_zmq_messages_round_trip_and_forged_ones_are_refused(message: Message, key: bytes) -> None:
    signer = Signer(key)
    parts = signer.encode(message, [b"identity"])
    idents, back = signer.decode(message.channel, parts)
    assert idents == [b"identity"]
    assert plain(back) == plain(message)
    forged = [*parts[:3], encode_json({"forged": 1}), *parts[4:]]
    with pytest.raises(RemoteProtocolError, match="wrong signature"):
        signer.decode(message.channel, forged)
    assert Signer(b"").encode(message)[1] == b""
    assert signer.decode(message.channel, forged, verify=False)[1].metadata == message.metadata


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoders_do_anything_but_refuse_or_read(data: bytes) -> None:
    for decode in (decode_v1, decode_legacy, peek_channel):
        with contextlib.suppress(RemoteProtocolError):
            decode(data)


@pytest.mark.parametrize("count", [0, 5, 2**24, 2**33, 2**64 - 1])
def test_a_forged_v1_count_is_refused_before_allocating(count: int) -> None:
    frame = struct.pack("<Q", count) + bytes(64)
    with pytest.raises(RemoteProtocolError, match="cannot hold"):
        decode_v1(frame)


@pytest.mark.parametrize("index", range(1, 7))
def test_forged_v1_offsets_are_refused(index: int) -> None:
    frame = bytearray(
        b"".join(bytes(p) for p in encode_v1(Message("iopub", b"{}", b"{}", b"{}", b"{}")))
    )
    struct.pack_into("<Q", frame, 8 * index, 2**40)
    with pytest.raises(RemoteProtocolError, match="offsets"):
        decode_v1(frame)


@pytest.mark.parametrize("count", [0, 2**24, 2**32 - 1])
def test_a_forged_legacy_count_is_refused_before_allocating(count: int) -> None:
    with pytest.raises(RemoteProtocolError, match="cannot hold"):
        decode_legacy(struct.pack("!I", count) + bytes(64))


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"header": 3}', '{"channel": "shelf"}', "[" * 100_000]
)
def test_legacy_text_that_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_legacy(text)


def test_a_legacy_message_without_channel_goes_to_shell() -> None:
    assert decode_legacy('{"header": {"msg_type": "x"}}').channel == "shell"


@pytest.mark.parametrize("parts", [[], [b"x"] * 5, [DELIMITER, b"", b"{}"], [b"a"] * 20])
def test_zmq_parts_that_are_no_message_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match="needs the delimiter"):
        Signer(b"").decode("shell", parts)


def test_json_that_is_no_object_is_refused() -> None:
    for part in (b"[]", b"{", b"\xff"):
        with pytest.raises(RemoteProtocolError):
            decode_json(part)
    with pytest.raises(RemoteProtocolError, match="unknown signature scheme"):
        Signer(b"k", "rot13")
