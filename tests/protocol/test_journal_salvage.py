"""Damage in a segment: every flipped byte is noticed, and nothing but the damaged frame is lost."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import pytest

from clouditia.errors import VersionMismatch
from clouditia.protocol.journal import (
    HEADER_BYTES,
    Kind,
    Omission,
    OmissionReason,
    Record,
    RecordReader,
    UpRequest,
    down_record,
    encode_record,
    epoch_record,
    exit_record,
    omission_of,
    omitted_record,
    up_record,
)
from clouditia.protocol.journal_salvage import SalvageReader, with_markers
from clouditia.protocol.messages import IOPUB, SHELL, Message, encode_json

#: Where each field of a header begins and ends.
FIELDS = {
    "magic": (0, 2), "version": (2, 3), "kind": (3, 4), "tag": (4, 5), "reserved": (5, 8),
    "epoch": (8, 12), "seq": (12, 20), "time_ns": (20, 28), "length": (28, 32),
    "payload_crc": (32, 36), "header_crc": (36, 40),
}  # fmt: skip
FLIPS = (0x01, 0x80, 0xFF)


def printed(text: str, seq: int) -> Record:
    header = encode_json({"msg_type": "stream", "msg_id": f"m{seq}"})
    message = Message(IOPUB, header, b"{}", b"{}", encode_json({"text": text}))
    return down_record(message, seq=seq, epoch=1, time_ns=seq)


def story() -> list[Record]:
    """One record of every kind, and messages before, between and after."""
    stamp = {"epoch": 1, "time_ns": 7}
    request = UpRequest("client", 1, "cell", "execute_request", SHELL)
    gone = Omission(4, 9, 6, 100, OmissionReason.RETENTION)
    return [
        epoch_record(next_seq=1, **stamp),
        up_record(request, next_seq=1, **stamp),
        *(printed("line", seq) for seq in (1, 2, 3)),
        omitted_record(gone, **stamp),
        printed("CJ and once more CJCJ", 10),  # looks like the beginning of a frame
        exit_record({"reason": "x"}, next_seq=11, **stamp),
        printed("last", 11),
    ]


def frames_of(records: Sequence[Record]) -> list[bytes]:
    return [b"".join(bytes(part) for part in encode_record(record)) for record in records]


def read(segment: bytes) -> tuple[list[bytes], SalvageReader]:
    """The frames that the reader gives, as they stand in the segment."""
    reader = SalvageReader(segment)
    return [segment[item.offset : item.offset + item.length] for item in reader], reader


def bounds(frames: list[bytes]) -> list[int]:
    return [sum(map(len, frames[:place])) for place in range(len(frames) + 1)]


def test_a_good_segment_is_read_as_by_the_plain_reader() -> None:
    frames = frames_of(story())
    found, reader = read(b"".join(frames))
    assert found == frames
    assert (reader.damages, reader.tail, reader.end) == ([], None, len(b"".join(frames)))
    assert [item.record.seq for item in reader] == [
        item.record.seq for item in RecordReader(b"".join(frames))
    ]
    assert read(b"")[1].tail is None


@pytest.mark.parametrize("flip", FLIPS)
def test_each_flipped_byte_costs_its_own_frame_and_is_noticed(flip: int) -> None:
    frames = frames_of(story())
    segment, starts = b"".join(frames), bounds(frames)
    for place in range(len(segment)):
        hit = max(number for number, start in enumerate(starts[:-1]) if start <= place)
        damaged = bytearray(segment)
        damaged[place] ^= flip
        found, reader = read(bytes(damaged))
        assert found == frames[:hit] + frames[hit + 1 :], f"byte {place}"
        if hit == len(frames) - 1:
            assert reader.tail is not None
            assert (reader.tail.offset, reader.end) == (starts[hit], starts[hit])
            assert reader.damages == []
        else:
            assert reader.tail is None
            ((offset, length, reason),) = reader.damages
            assert (offset, length) == (starts[hit], len(frames[hit]))
            assert reason.startswith(("damaged", "torn"))


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_of_a_header_is_covered_by_a_checksum(field: str) -> None:
    frames = frames_of(story())
    first, last = FIELDS[field]
    for place in range(first, last):
        for bit in range(8):
            damaged = bytearray(b"".join(frames))
            damaged[len(frames[0]) + place] ^= 1 << bit
            assert read(bytes(damaged))[0] == frames[:1] + frames[2:]


def test_a_segment_torn_at_any_length_ends_with_its_last_whole_frame() -> None:
    frames = frames_of(story())
    segment, starts = b"".join(frames), bounds(frames)
    for length in range(len(segment)):
        found, reader = read(segment[:length])
        whole = sum(end <= length for end in starts[1:])
        assert found == frames[:whole]
        assert reader.end == starts[whole]
        assert (reader.tail is None) == (length in starts)
        assert reader.damages == []


def test_zeros_from_a_power_cut_are_no_frames() -> None:
    frames = frames_of(story())
    zeros = bytes(len(frames[3]))
    found, reader = read(b"".join([*frames[:3], zeros, *frames[4:]]))
    assert found == frames[:3] + frames[4:]
    assert len(reader.damages) == 1
    found, reader = read(b"".join(frames) + bytes(4096))
    assert found == frames
    assert reader.tail is not None


def test_damage_in_several_places_costs_those_frames_only() -> None:
    frames = frames_of(story())
    starts = bounds(frames)
    damaged = bytearray(b"".join(frames))
    for number in (0, 3, 4, 7):
        damaged[starts[number] + 10] ^= 0x55
    found, reader = read(bytes(damaged))
    assert found == [frame for number, frame in enumerate(frames) if number not in (0, 3, 4, 7)]
    assert [damage.offset for damage in reader.damages] == [starts[n] for n in (0, 3, 7)]
    assert reader.damages[1].length == len(frames[3]) + len(frames[4])
    assert len(list(reader)) == len(found)  # once more: the same
    assert len(reader.damages) == 3


def test_a_frame_inside_a_torn_payload_is_not_believed() -> None:
    inner = frames_of([printed("forged", 2)])[0]
    outer = frames_of([Record(Kind.DOWN, 2, 1, 7, (inner + bytes(50),))])[0]
    before = frames_of([printed("before", 1)])[0]
    found, reader = read(before + outer[:-20])
    assert found == [before]
    assert reader.tail is not None
    assert reader.tail.reason.startswith("torn")


def test_a_frame_inside_a_damaged_payload_is_not_believed() -> None:
    inner = frames_of([printed("forged", 3)])[0]
    outer = bytearray(frames_of([Record(Kind.DOWN, 2, 1, 7, (inner + bytes(50),))])[0])
    outer[-1] ^= 1
    before, after = frames_of([printed("before", 1), printed("after", 3)])
    found, reader = read(before + bytes(outer) + after)
    assert found == [before, after]
    assert [damage.offset for damage in reader.damages] == [len(before)]


def test_a_wrong_payload_before_a_wrong_header_does_not_hide_what_follows() -> None:
    frames = frames_of([printed("x", seq) for seq in range(1, 6)])
    starts = bounds(frames)
    damaged = bytearray(b"".join(frames))
    damaged[starts[1] + HEADER_BYTES] ^= 1  # its header still says where it ends,
    damaged[starts[2] + 3] ^= 1  # but there the next one is damaged, too
    assert read(bytes(damaged))[0] == [frames[0], frames[3], frames[4]]


def test_a_newer_format_is_an_error_and_no_damage() -> None:
    good = frames_of([printed("x", 1)])[0]
    head = struct.pack(">2sB", b"CJ", 9) + good[3:36]
    newer = head + struct.pack(">I", zlib.crc32(head)) + good[40:]
    with pytest.raises(VersionMismatch):
        read(good + newer)


def test_missing_numbers_become_omissions() -> None:
    records = [printed("a", 3), printed("b", 4), printed("c", 8)]
    marked = list(with_markers(records))
    assert [record.kind for record in marked] == [Kind.DOWN] * 2 + [Kind.OMITTED, Kind.DOWN]
    assert omission_of(marked[2]) == Omission(5, 7, 0, 0, OmissionReason.DAMAGED)
    assert list(with_markers(story())) == story()
    late = [printed("a", 1), epoch_record(next_seq=5, epoch=2, time_ns=1), printed("b", 5)]
    assert [record.kind for record in with_markers(late)] == [1, 5, 3, 1]
    later = [*late[:2], printed("b", 6)]
    assert [record.kind for record in with_markers(later)] == [1, 5, 3, 5, 1]
