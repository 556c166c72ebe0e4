"""Retention: the oldest stream output goes first, outcomes stay, and what goes is counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.protocol.journal import (
    HEADER_BYTES,
    Kind,
    Omission,
    OmissionReason,
    Record,
    Tag,
    UpRequest,
    epoch_record,
    exit_record,
    frame_bytes,
    omission_of,
    omitted_record,
    request_of,
    up_record,
)
from clouditia.protocol.journal_index import SegmentIndex
from clouditia.protocol.journal_retention import (
    MIN_SEGMENT_BYTES,
    SEGMENT_BYTES,
    Compact,
    Level,
    Retention,
    compact_records,
    droppable_bytes,
)

DAY_NS = 86_400 * 10**9
DROPS = {
    Level.STREAM: {Tag.STREAM},
    Level.DISPLAY: {Tag.STREAM, Tag.DISPLAY},
    Level.ALL_BUT_OUTCOMES: {Tag.STREAM, Tag.DISPLAY, Tag.OTHER},
}
RETENTION, DAMAGED = OmissionReason.RETENTION, OmissionReason.DAMAGED


def down(seq: int, tag: int = Tag.STREAM, size: int = 10, epoch: int = 1) -> Record:
    return Record(Kind.DOWN, seq, epoch, 1000 + seq, (bytes(size),), tag)


def request(client_id: str, up_seq: int, msg_type: str, next_seq: int) -> Record:
    fields = UpRequest(client_id, up_seq, f"{client_id}{up_seq}", msg_type, "shell")
    return up_record(fields, next_seq=next_seq, epoch=1, time_ns=5)


def segment(number: int, newest_ns: int = 0, **sizes: int) -> SegmentIndex:
    index = SegmentIndex(number)
    for place, (name, size) in enumerate(sizes.items(), 1):
        record = down(number * 100 + place, Tag[name.upper()])
        index.add(record._replace(time_ns=newest_ns), 0, size)
    return index


def omissions(records: list[Record]) -> list[Omission]:
    return [omission_of(record) for record in records if record.kind == Kind.OMITTED]


# --- compaction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", Level)
def test_each_level_drops_its_tags_and_keeps_the_rest(level: Level) -> None:
    records = [down(seq, tag) for seq, tag in enumerate([*Tag, 99], 1)]
    kept = [record for record in compact_records(records, level) if record.kind == Kind.DOWN]
    assert kept == [record for record in records if record.tag not in DROPS[level]]


def test_outcomes_are_never_dropped() -> None:
    outcomes = [Tag.REPLY, Tag.IDLE, Tag.ERROR, Tag.NOTICE, Tag.REQUEST]
    records = [down(seq, tag) for seq, tag in enumerate(outcomes, 1)]
    assert list(compact_records(records, Level.ALL_BUT_OUTCOMES)) == records


def test_each_run_of_dropped_messages_leaves_one_marker_with_its_count_and_bytes() -> None:
    records = [down(1), down(2, size=5), down(3, Tag.REPLY), down(4, size=7, epoch=2)]
    first, reply, second = compact_records(records, Level.STREAM)
    assert omission_of(first) == Omission(1, 2, 2, 15, RETENTION)
    assert (first.seq, first.epoch, first.time_ns) == (1, 1, 1002)
    assert reply == records[2]
    assert omission_of(second) == Omission(4, 4, 1, 7, RETENTION)
    assert (second.epoch, second.time_ns) == (2, 1004)


def test_markers_grow_when_more_is_dropped_around_them() -> None:
    records = [down(1), down(2, Tag.DISPLAY), down(3), down(4, Tag.IDLE)]
    once = list(compact_records(records, Level.STREAM))
    assert omissions(once) == [Omission(1, 1, 1, 10, RETENTION), Omission(3, 3, 1, 10, RETENTION)]
    twice = list(compact_records(once, Level.DISPLAY))
    assert omissions(twice) == [Omission(1, 3, 3, 30, RETENTION)]
    assert twice[1:] == [records[3]]
    assert list(compact_records(twice, Level.DISPLAY)) == twice


def test_damage_and_retention_stay_apart() -> None:
    damage = Omission(2, 5, 0, 0, DAMAGED)
    records = [down(1), omitted_record(damage, epoch=1, time_ns=1), down(6)]
    assert omissions(list(compact_records(records, Level.STREAM))) == [
        Omission(1, 1, 1, 10, RETENTION),
        damage,
        Omission(6, 6, 1, 10, RETENTION),
    ]


def test_a_hole_between_dropped_messages_is_not_covered_by_their_marker() -> None:
    result = list(compact_records([down(1), down(5)], Level.STREAM))
    assert [(gap.first, gap.last) for gap in omissions(result)] == [(1, 1), (5, 5)]


def test_starts_exits_requests_and_unknown_records_stay_where_they_are() -> None:
    others = [
        epoch_record(next_seq=1, epoch=1, time_ns=1),
        request("c", 1, "execute_request", 1),
        Record(77, 1, 1, 1, (b"?",)),
        exit_record({}, next_seq=1, epoch=1, time_ns=1),
    ]
    records = [others[0], others[1], down(1), others[2], down(2), others[3]]
    result = list(compact_records(records, Level.ALL_BUT_OUTCOMES))
    assert [record.kind for record in result] == [
        Kind.EPOCH, Kind.UP, Kind.OMITTED, 77, Kind.OMITTED, Kind.EXIT,
    ]  # fmt: skip
    assert [record for record in result if record.kind != Kind.OMITTED] == others


def test_of_messages_without_a_reply_the_last_of_each_client_stays() -> None:
    records = [
        request("a", 1, "comm_msg", 1),
        request("b", 1, "comm_msg", 1),
        request("a", 2, "comm_msg", 1),
        request("b", 2, "execute_request", 1),
    ]
    assert list(compact_records(records, Level.DISPLAY)) == records
    once = list(compact_records(records, Level.ALL_BUT_OUTCOMES))
    assert [request_of(record)[:2] for record in once] == [("b", 2), ("a", 2), ("b", 1)]
    assert list(compact_records(once, Level.ALL_BUT_OUTCOMES)) == once
    index = SegmentIndex(0)
    for record in once:
        index.add(record, 0, 100)
    assert droppable_bytes(index, Level.ALL_BUT_OUTCOMES) == 0


@given(
    st.lists(st.tuples(st.sampled_from([*Tag]), st.integers(0, 30)), max_size=30),
    st.lists(st.sampled_from(Level), min_size=1, max_size=3),
)
def test_every_message_is_kept_or_counted_once_whatever_is_compacted_when(
    tags: list[tuple[Tag, int]], levels: list[Level]
) -> None:
    records = [down(seq, tag, size) for seq, (tag, size) in enumerate(tags, 1)]
    result = records
    for level in levels:
        result = list(compact_records(result, level))
    drops = DROPS[max(levels)]
    kept = [record for record in result if record.kind == Kind.DOWN]
    gaps = omissions(result)
    assert kept == [record for record in records if record.tag not in drops]
    dropped = [record for record in records if record.tag in drops]
    assert [seq for gap in gaps for seq in range(gap.first, gap.last + 1)] == [
        record.seq for record in dropped
    ]
    assert sum(gap.messages for gap in gaps) == len(dropped)
    assert sum(gap.size_bytes for gap in gaps) == sum(frame_bytes(r.payload) for r in dropped)
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(gaps))


# --- planning -----------------------------------------------------------------------------------


def test_nothing_is_planned_within_the_limits() -> None:
    segments = [segment(0, stream=50), segment(1, stream=50)]
    assert Retention(max_bytes=100).plan(segments, 0) == []
    assert Retention().plan([], 0) == []


def test_room_is_made_below_the_limit_for_what_is_being_written() -> None:
    segments = [segment(number, stream=50, display=30, reply=20) for number in range(4)]
    assert Retention(max_bytes=450).plan(segments, 0, reserve_bytes=50) == []
    plan = Retention(max_bytes=450).plan(segments, 0, reserve_bytes=51)
    assert plan == [Compact(0, Level.STREAM)]
    assert Retention(max_bytes=8 << 20).reserve_bytes == (1 << 20) * 5 // 4
    assert Retention(max_bytes=100_000).reserve_bytes == 50_000


def test_the_oldest_stream_output_goes_first_and_no_more_than_needed() -> None:
    segments = [segment(number, stream=50, display=30, reply=20) for number in range(4)]
    plan = Retention(max_bytes=350).plan(segments, 0)
    assert plan == [Compact(0, Level.STREAM)]
    plan = Retention(max_bytes=349).plan(segments, 0)
    assert plan == [Compact(0, Level.STREAM), Compact(1, Level.STREAM)]


def test_displays_go_when_all_closed_streams_are_gone_then_all_but_outcomes() -> None:
    segments = [segment(n, stream=50, display=30, other=10, reply=10) for n in range(3)]
    assert Retention(max_bytes=200).plan(segments, 0) == [
        Compact(0, Level.STREAM),
        Compact(1, Level.STREAM),
    ]
    assert Retention(max_bytes=199).plan(segments, 0) == [
        Compact(0, Level.DISPLAY),
        Compact(1, Level.STREAM),
    ]
    assert Retention(max_bytes=139).plan(segments, 0) == [
        Compact(0, Level.ALL_BUT_OUTCOMES),
        Compact(1, Level.DISPLAY),
    ]


def test_the_segment_being_written_is_left_alone_and_outcomes_are_never_planned() -> None:
    segments = [segment(0, reply=900, idle=50, error=50), segment(1, stream=900)]
    assert Retention(max_bytes=10).plan(segments, 9 * DAY_NS) == []


def test_a_segment_that_was_compacted_is_not_planned_again() -> None:
    segments = [segment(0, reply=900), segment(1, display=50), segment(2)]
    assert Retention(max_bytes=10).plan(segments, 0) == [Compact(1, Level.DISPLAY)]


def test_a_plan_stands_in_the_order_of_the_segments() -> None:
    segments = [segment(0, display=50), segment(1, stream=50), segment(2)]
    assert Retention(max_bytes=10).plan(segments, 0) == [
        Compact(0, Level.DISPLAY),
        Compact(1, Level.STREAM),
    ]


def test_after_a_week_only_outcomes_are_kept() -> None:
    segments = [
        segment(0, newest_ns=0, stream=5, other=5),
        segment(1, newest_ns=DAY_NS, stream=5),
        segment(2, newest_ns=0, stream=5),
    ]
    assert Retention().plan(segments, 7 * DAY_NS) == []
    assert Retention().plan(segments, 7 * DAY_NS + 1) == [Compact(0, Level.ALL_BUT_OUTCOMES)]
    assert Retention(max_age_s=86_400.0).plan(segments, 2 * DAY_NS + 1) == [
        Compact(0, Level.ALL_BUT_OUTCOMES),
        Compact(1, Level.ALL_BUT_OUTCOMES),
    ]


def test_what_goes_by_age_counts_for_the_size() -> None:
    segments = [segment(0, 0, stream=50), segment(1, 8 * DAY_NS, stream=50), segment(2)]
    plan = Retention(max_bytes=50).plan(segments, 8 * DAY_NS)
    assert plan == [Compact(0, Level.ALL_BUT_OUTCOMES)]


@given(st.lists(st.tuples(*[st.integers(1, 50)] * 4), max_size=8), st.integers(0, 2000))
def test_a_plan_reaches_the_limit_or_drops_all_that_may_go(
    sizes: list[tuple[int, int, int, int]], max_bytes: int
) -> None:
    segments = [
        segment(number, stream=a, display=b, other=c, reply=d)
        for number, (a, b, c, d) in enumerate(sizes)
    ]
    plan = dict(Retention(max_bytes=max_bytes).plan(segments, 0))
    left = sum(index.size_bytes for index in segments)
    left -= sum(droppable_bytes(segments[number], level) for number, level in plan.items())
    may_go = {index.number for index in segments[:-1]}
    if left > max_bytes:
        assert plan == dict.fromkeys(may_go, Level.ALL_BUT_OUTCOMES)
    assert set(plan) <= may_go
    levels = [plan.get(number, 0) for number in range(len(segments) - 1)]
    assert levels == sorted(levels, reverse=True)
    assert not levels or levels[0] - levels[-1] <= 1


# --- rolling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (1 << 30, SEGMENT_BYTES),
        (8 << 20, 1 << 20),
        (0, MIN_SEGMENT_BYTES),
    ],
)
def test_segments_are_small_beside_the_whole(max_bytes: int, expected: int) -> None:
    assert Retention(max_bytes=max_bytes).segment_bytes == expected


def test_a_segment_is_closed_when_it_is_full_or_a_day_old() -> None:
    retention = Retention(max_bytes=1 << 20)
    full = retention.segment_bytes
    assert not retention.should_roll(segment(0, 0, stream=full - 1), DAY_NS)
    assert retention.should_roll(segment(0, 0, stream=full), 0)
    assert retention.should_roll(segment(0, 0, stream=1), DAY_NS + 1)
    assert not retention.should_roll(SegmentIndex(0), 99 * DAY_NS)


def test_the_size_of_a_marker_is_small_beside_what_it_stands_for() -> None:
    (marker,) = compact_records([down(1)], Level.STREAM)
    assert HEADER_BYTES + frame_bytes(marker.payload) < 80
