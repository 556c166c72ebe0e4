"""Journal frames: what goes in comes out, and no flipped byte or torn tail goes unnoticed."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.errors import (
    LocalProtocolError,
    PackageTooLarge,
    RemoteProtocolError,
    VersionMismatch,
)
from clouditia.protocol import journal
from clouditia.protocol.journal import (
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    RECOVERY_SKIP,
    Kind,
    Omission,
    OmissionReason,
    Record,
    RecordReader,
    Tag,
    UpRequest,
    down_record,
    encode_record,
    epoch_record,
    exit_facts_of,
    exit_record,
    expects_reply,
    frame_bytes,
    message_of,
    omission_of,
    omitted_record,
    parent_id_of,
    read_frame,
    recovery_record,
    request_of,
    tag_of,
    up_record,
)
from clouditia.protocol.messages import CHANNELS, Buffer, Message, encode_json, encode_v1

U64 = st.integers(0, 2**64 - 1)
RECORDS = st.builds(
    Record,
    kind=st.integers(0, 255),
    seq=U64,
    epoch=st.integers(0, 2**32 - 1),
    time_ns=U64,
    payload=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
    tag=st.integers(0, 255),
)


def joined(parts: Sequence[Buffer]) -> bytes:
    return b"".join(bytes(part) for part in parts)


def segment_of(records: Sequence[Record]) -> bytes:
    return b"".join(joined(encode_record(record)) for record in records)


def flat(record: Record) -> Record:
    return record._replace(payload=(joined(record.payload),))


def read_all(segment: bytes) -> list[Record]:
    return [flat(frame.record) for frame in RecordReader(segment)]


def message(channel: str, msg_type: str, content: object = None, parent: str = "r1") -> Message:
    return Message(
        channel,
        encode_json({"msg_id": "m", "msg_type": msg_type}),
        encode_json({"msg_id": parent}),
        b"{}",
        encode_json(content or {}),
    )


THREE = [
    Record(Kind.DOWN, 1, 1, 10, (b"first", b" message")),
    Record(Kind.UP, 2, 1, 11, (b"a request",)),
    Record(Kind.DOWN, 2, 1, 12, (b"", b"second")),
]


@given(st.lists(RECORDS, max_size=6))
def test_records_are_read_back_as_they_were_written(records: list[Record]) -> None:
    segment = segment_of(records)
    reader = RecordReader(segment)
    frames = list(reader)
    assert [flat(frame.record) for frame in frames] == [flat(record) for record in records]
    assert reader.corruption is None
    assert reader.end == len(segment) == sum(frame.length for frame in frames)
    for frame, record in zip(frames, records, strict=True):
        assert frame.length == frame_bytes(encode_record(record))
        assert read_frame(segment, frame.offset) == frame


def test_a_reader_can_iterate_again_after_damage_was_found() -> None:
    segment = segment_of(THREE)[:-1]
    reader = RecordReader(memoryview(segment))
    assert list(reader) == list(reader)
    assert reader.corruption is not None


@pytest.mark.parametrize("index", range(len(segment_of(THREE))))
def test_every_flipped_bit_stops_the_reader_at_its_frame(index: int) -> None:
    good = segment_of(THREE)
    frames = list(RecordReader(good))
    hit = next(frame for frame in reversed(frames) if frame.offset <= index)
    for bit in range(8):
        bad = bytearray(good)
        bad[index] ^= 1 << bit
        reader = RecordReader(bytes(bad))
        assert len(list(reader)) == frames.index(hit)
        assert reader.end == hit.offset
        assert reader.corruption is not None
        assert reader.corruption.offset == hit.offset
        assert reader.corruption.reason.startswith("damaged")


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
def test_every_torn_tail_is_cut_at_the_last_good_frame(
    records: list[Record], data: st.DataObject
) -> None:
    segment = segment_of(records)
    ends = [frame.offset + frame.length for frame in RecordReader(segment)]
    size = data.draw(st.integers(0, len(segment)))
    reader = RecordReader(segment[:size])
    assert len(list(reader)) == sum(end <= size for end in ends)
    assert reader.end == max([end for end in ends if end <= size], default=0)
    if size in (0, *ends):
        assert reader.corruption is None
    else:
        assert reader.corruption is not None
        assert reader.corruption.offset == reader.end
        assert reader.corruption.reason.startswith("torn")


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_journal_give_no_record(noise: bytes) -> None:
    reader = RecordReader(noise)
    assert list(reader) == []
    assert reader.corruption is not None
    assert reader.corruption.offset == 0


def test_a_tail_of_zeros_as_a_power_loss_leaves_it_is_damage() -> None:
    good = segment_of(THREE)
    reader = RecordReader(good + bytes(4096))
    assert len(list(reader)) == 3
    assert reader.corruption == (len(good), "damaged: no frame starts here")


def test_a_swapped_payload_of_equal_length_is_noticed() -> None:
    one, other = (
        encode_record(Record(1, 1, 1, 1, (b"aaaa",))),
        encode_record(Record(1, 1, 1, 1, (b"bbbb",))),
    )
    reader = RecordReader(joined([one[0], other[1]]))
    assert list(reader) == []
    assert reader.corruption == (0, "damaged: the checksum of the payload does not match")


def header(*, version: int = 1, length: int = 0, payload: bytes = b"") -> bytes:
    head = struct.pack(">2sBBB3xIQQII", b"CJ", version, 1, 0, 1, 1, 1, length, zlib.crc32(payload))
    return head + struct.pack(">I", zlib.crc32(head))


def test_a_forged_length_is_refused_without_allocating() -> None:
    segment = header(length=2**32 - 1) + b"x" * 100
    tracemalloc.start()
    reader = RecordReader(segment)
    assert list(reader) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert reader.corruption == (0, "torn: the payload has 4294967295 bytes, only 100 are left")


def test_a_journal_of_a_newer_format_is_refused_with_both_versions_in_the_message() -> None:
    with pytest.raises(VersionMismatch, match="format 2, this program reads up to 1"):
        list(RecordReader(header(version=2)))


def test_the_header_is_laid_out_as_documented() -> None:
    assert HEADER_BYTES == 40
    frame = joined(encode_record(Record(Kind.DOWN, 7, 3, 9, (b"ab", b"c"), Tag.STREAM)))
    assert frame[:5] == b"CJ" + bytes([1, Kind.DOWN, Tag.STREAM])
    assert struct.unpack(">IQQI", frame[8:32]) == (3, 7, 9, 3)
    assert frame[32:36] == struct.pack(">I", zlib.crc32(b"abc"))


@pytest.mark.parametrize("offset", [-1, 3, 4])
def test_a_frame_outside_of_the_segment_is_our_own_mistake(offset: int) -> None:
    with pytest.raises(LocalProtocolError, match="the segment has 3 bytes"):
        read_frame(b"abc", offset)


def test_a_payload_of_several_parts_is_not_copied() -> None:
    part = bytearray(1000)
    parts = encode_record(Record(Kind.DOWN, 1, 1, 1, (b"x", part, memoryview(b"yy"))))
    assert parts[2] is part
    assert frame_bytes(parts) == HEADER_BYTES + 1003


def test_a_payload_larger_than_a_message_can_be_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_RECORD_BYTES > 256 * 1024 * 1024
    monkeypatch.setattr(journal, "MAX_RECORD_BYTES", 10)
    encode_record(Record(1, 1, 1, 1, (bytes(10),)))
    with pytest.raises(PackageTooLarge, match="at most 10 bytes, this one has 11"):
        encode_record(Record(1, 1, 1, 1, (bytes(4), memoryview(bytes(7)))))


# --- what records hold --------------------------------------------------------------------------


@given(
    st.builds(
        Message,
        st.sampled_from(sorted(CHANNELS)),
        *[st.binary(max_size=20)] * 4,
        buffers=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    )
)
def test_a_message_is_the_same_from_memory_and_from_disk(sent: Message) -> None:
    record = down_record(sent, seq=4, epoch=2, time_ns=5)
    assert (record.kind, record.seq, record.epoch, record.time_ns) == (Kind.DOWN, 4, 2, 5)
    assert joined(record.payload) == joined(encode_v1(sent))
    assert message_of(record) == sent
    stored = next(iter(RecordReader(segment_of([record])))).record
    assert message_of(stored) == sent
    assert stored.tag == record.tag


def test_who_asked_is_read_from_the_parent_header() -> None:
    record = down_record(message("shell", "x_reply", parent="who"), seq=1, epoch=1, time_ns=1)
    assert parent_id_of(record) == "who"
    assert parent_id_of(read_frame(segment_of([record])).record) == "who"


@pytest.mark.parametrize("parent", [b"", b"[]", b"{}", b'{"msg_id": null}', b"\xff"])
def test_an_answer_to_nobody_has_no_parent(parent: bytes) -> None:
    odd = message("iopub", "stream")._replace(parent_header=parent)
    assert parent_id_of(down_record(odd, seq=1, epoch=1, time_ns=1)) == ""


@pytest.mark.parametrize(
    ("channel", "msg_type", "content", "tag"),
    [
        ("iopub", "stream", {}, Tag.STREAM),
        ("iopub", "display_data", {}, Tag.DISPLAY),
        ("iopub", "update_display_data", {}, Tag.DISPLAY),
        ("iopub", "execute_result", {}, Tag.DISPLAY),
        ("iopub", "error", {}, Tag.ERROR),
        ("iopub", "status", {"execution_state": "idle"}, Tag.IDLE),
        ("iopub", "status", {"execution_state": "busy"}, Tag.OTHER),
        ("iopub", "execute_input", {}, Tag.OTHER),
        ("iopub", "comm_msg", {}, Tag.OTHER),
        ("shell", "execute_reply", {}, Tag.REPLY),
        ("control", "interrupt_reply", {}, Tag.REPLY),
        ("stdin", "input_request", {}, Tag.OTHER),
        ("clouditia", "kernel_exited", {}, Tag.NOTICE),
    ],
)
def test_a_message_is_tagged_by_what_it_is_good_for(
    channel: str, msg_type: str, content: object, tag: Tag
) -> None:
    assert tag_of(message(channel, msg_type, content)) is tag


def test_nonsense_from_a_kernel_is_tagged_as_other() -> None:
    assert tag_of(message("iopub", "stream")._replace(header=b"nonsense")) is Tag.OTHER
    assert tag_of(message("iopub", "status")._replace(content=b"[]")) is Tag.OTHER
    assert tag_of(message("iopub", "stream")._replace(header=b'{"msg_type": []}')) is Tag.OTHER


@given(st.builds(UpRequest, st.text(), U64, st.text(), st.text(), st.text()))
def test_a_request_is_read_back_as_it_was_written(request: UpRequest) -> None:
    record = up_record(request, next_seq=3, epoch=1, time_ns=2)
    assert (record.kind, record.seq) == (Kind.UP, 3)
    assert request_of(record) == request


def test_an_id_that_is_not_valid_unicode_is_read_back_as_it_was() -> None:
    request = UpRequest("c", 1, "\ud800", "execute_request", "shell")
    assert request_of(up_record(request, next_seq=1, epoch=1, time_ns=1)) == request


@pytest.mark.parametrize(
    ("channel", "msg_type", "expected"),
    [
        ("shell", "execute_request", True),
        ("control", "interrupt_request", True),
        ("shell", "comm_open", False),
        ("shell", "comm_msg", False),
        ("stdin", "input_reply", False),
        ("stdin", "odd_request", False),
        ("clouditia", "command", False),
    ],
)
def test_only_requests_on_shell_and_control_have_replies(
    channel: str, msg_type: str, expected: bool
) -> None:
    assert expects_reply(channel, msg_type) is expected
    request = UpRequest("c", 1, "m", msg_type, channel)
    record = up_record(request, next_seq=1, epoch=1, time_ns=1)
    assert record.tag == (Tag.REQUEST if expected else Tag.OTHER)


FIELDS = {"client_id": "c", "up_seq": 1, "msg_id": "m", "msg_type": "t", "channel": "shell"}


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("value", [None, [], {}])
def test_a_request_record_with_a_bad_field_is_refused(name: str, value: object) -> None:
    without = {key: FIELDS[key] for key in FIELDS if key != name}
    with pytest.raises(RemoteProtocolError, match=f"no '{name}'"):
        request_of(Record(Kind.UP, 1, 1, 1, (encode_json(without),)))
    with pytest.raises(RemoteProtocolError, match="wrong type"):
        request_of(Record(Kind.UP, 1, 1, 1, (encode_json({**FIELDS, name: value}),)))


def test_the_start_and_the_exit_of_a_kernel_are_records() -> None:
    start = epoch_record(next_seq=5, epoch=2, time_ns=1)
    assert (start.kind, start.seq, start.epoch) == (Kind.EPOCH, 5, 2)
    end = exit_record({"exit_code": -9}, next_seq=6, epoch=2, time_ns=1)
    assert (end.kind, end.seq, end.epoch) == (Kind.EXIT, 6, 2)
    assert exit_facts_of(read_frame(segment_of([end])).record) == {"exit_code": -9}


@given(U64, U64, U64, U64, st.sampled_from(OmissionReason))
def test_an_omission_is_read_back_as_it_was_written(
    first: int, last: int, messages: int, size_bytes: int, reason: OmissionReason
) -> None:
    omission = Omission(first, last, messages, size_bytes, reason)
    record = omitted_record(omission, epoch=1, time_ns=1)
    assert (record.kind, record.seq) == (Kind.OMITTED, first)
    assert omission_of(read_frame(segment_of([record])).record) == omission


@pytest.mark.parametrize("payload", [b"", b"short", struct.pack(">QQQB", 1, 1, 1, 99)])
def test_a_malformed_omission_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        omission_of(Record(Kind.OMITTED, 1, 1, 1, (payload,)))


def test_recovery_leaves_out_more_numbers_than_clients_can_have_seen() -> None:
    record = recovery_record(next_seq=100, epoch=3, time_ns=7)
    omission = omission_of(record)
    assert (omission.first, omission.last) == (100, 100 + RECOVERY_SKIP - 1)
    assert omission.reason is OmissionReason.DAMAGED
    assert (record.epoch, record.time_ns) == (3, 7)


# --- what stays true of the format --------------------------------------------------------------


def test_the_numbers_on_disk_never_change() -> None:
    assert [(kind.name, kind.value) for kind in Kind] == [
        ("DOWN", 1), ("UP", 2), ("EPOCH", 3), ("EXIT", 4), ("OMITTED", 5),
    ]  # fmt: skip
    assert [(tag.name, tag.value) for tag in Tag] == [
        ("OTHER", 0), ("STREAM", 1), ("DISPLAY", 2), ("REPLY", 3), ("IDLE", 4), ("ERROR", 5),
        ("NOTICE", 6), ("REQUEST", 7),
    ]  # fmt: skip
    assert [(reason.name, reason.value) for reason in OmissionReason] == [
        ("RETENTION", 1), ("DAMAGED", 2),
    ]  # fmt: skip
