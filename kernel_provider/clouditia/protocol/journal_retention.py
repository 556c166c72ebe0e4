"""What a journal forgets, and when: the oldest stream output first, outcomes never.

Replies, idles, errors, notices and the record of each request stay for as long as the kernel
lives; all the rest can go, in three levels, oldest segment first. What goes leaves a marker.

Times come from the caller. They must not jump, or a corrected clock would look like age: read the
wall clock once at start and add monotonic time to it.

Source: docs/protocol.md, `GAP`; docs/host-protocol.md, `retention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from clouditia.protocol.journal import (
    Kind,
    Omission,
    OmissionReason,
    Record,
    Tag,
    frame_bytes,
    omission_of,
    omitted_record,
    request_of,
)
from clouditia.protocol.journal_index import SegmentIndex

SEGMENT_BYTES = 16 * 1024 * 1024
MIN_SEGMENT_BYTES = 64 * 1024
MAX_SEGMENT_AGE_S = 86_400.0
DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
DEFAULT_MAX_AGE_S = 7 * 86_400.0


class Level(IntEnum):
    """How much of a segment is dropped; each level includes the ones before."""

    STREAM = 1
    DISPLAY = 2
    ALL_BUT_OUTCOMES = 3


_DROPPED = {
    Level.STREAM: (Tag.STREAM,),
    Level.DISPLAY: (Tag.STREAM, Tag.DISPLAY),
    Level.ALL_BUT_OUTCOMES: (Tag.STREAM, Tag.DISPLAY, Tag.OTHER),
}


class Compact(NamedTuple):
    """Rewrite this segment through :func:`compact_records` at this level."""

    segment: int
    level: Level


@dataclass(frozen=True)
class Retention:
    """How much a kernel's journal may keep, and for how long.

    Args:
        max_bytes: Size of all segments together; default 1 GiB.
        max_age_s: Age in seconds after which only outcomes are kept; default 7 days.
    """

    max_bytes: int = DEFAULT_MAX_BYTES
    max_age_s: float = DEFAULT_MAX_AGE_S

    @property
    def segment_bytes(self) -> int:
        """Size at which a segment is closed: 16 MiB, or an eighth of a smaller journal."""
        return max(MIN_SEGMENT_BYTES, min(SEGMENT_BYTES, self.max_bytes // 8))

    def should_roll(self, segment: SegmentIndex, now_ns: int) -> bool:
        """Whether the next record begins a new segment: this one is full, or a day old."""
        if not segment.size_bytes:
            return False
        age_s = (now_ns - segment.oldest_ns) / 1e9
        return segment.size_bytes >= self.segment_bytes or age_s > MAX_SEGMENT_AGE_S

    @property
    def reserve_bytes(self) -> int:
        """What is kept free below the limit: by so much the segment that is written may grow.

        A quarter more than its size, for the messages that fill it up and for markers.
        """
        return min(self.segment_bytes * 5 // 4, self.max_bytes // 2)

    def plan(
        self, segments: Sequence[SegmentIndex], now_ns: int, reserve_bytes: int = 0
    ) -> List[Compact]:
        """What to rewrite now, in order; nothing when all limits are kept.

        Args:
            segments: Of the index, oldest first; the last one is being written and left alone.
            now_ns: The time, of the clock that stamped the records.
            reserve_bytes: How far below the limit to stay.
        """
        closed = segments[:-1]
        levels: Dict[int, Level] = {}
        excess = sum(segment.size_bytes for segment in segments) + reserve_bytes - self.max_bytes
        for segment in closed:
            droppable = droppable_bytes(segment, Level.ALL_BUT_OUTCOMES)
            if droppable and (now_ns - segment.newest_ns) / 1e9 > self.max_age_s:
                levels[segment.number] = Level.ALL_BUT_OUTCOMES
                excess -= droppable
        for level in Level:
            for segment in closed:
                if excess <= 0:
                    break
                gain = _gain(segment, levels.get(segment.number), level)
                if gain > 0:
                    levels[segment.number] = level
                    excess -= gain
        return [Compact(number, levels[number]) for number in sorted(levels)]


def droppable_bytes(segment: SegmentIndex, level: Level) -> int:
    """Bytes that leave a segment when it is compacted at this level, before markers."""
    return sum(segment.tag_bytes[tag] for tag in _DROPPED[level])


def _gain(segment: SegmentIndex, planned: Optional[Level], level: Level) -> int:
    already = droppable_bytes(segment, planned) if planned else 0
    return droppable_bytes(segment, level) - already


def compact_records(records: Iterable[Record], level: Level) -> Iterator[Record]:
    """The records of a segment without what ``level`` drops, in an order that can be indexed.

    Each run of dropped messages becomes one OMITTED record, joined with those already there.
    """
    run: Optional[_Run] = None
    last_replyless: Dict[str, Record] = {}
    for record in records:
        if _is_dropped(record, level):
            if record.kind == Kind.UP:
                last_replyless[request_of(record).client_id] = record
                continue
            gap = _omission_for(record)
            if run is not None and run.takes(gap):
                run.extend(gap, record)
                continue
            if run is not None:
                yield run.as_record()
            run = _Run(gap, record)
            continue
        if run is not None:
            yield run.as_record()
            run = None
        yield record
    if run is not None:
        yield run.as_record()
    for record in last_replyless.values():
        # The number of each client's last request must be known after a crash, so this one stays.
        yield record._replace(tag=Tag.REQUEST)


def _is_dropped(record: Record, level: Level) -> bool:
    if record.kind == Kind.OMITTED:
        return True  # comes back as part of a run
    return record.kind in (Kind.DOWN, Kind.UP) and record.tag in _DROPPED[level]


def _omission_for(record: Record) -> Omission:
    if record.kind == Kind.OMITTED:
        return omission_of(record)
    size_bytes = frame_bytes(record.payload)
    return Omission(record.seq, record.seq, 1, size_bytes, OmissionReason.RETENTION)


class _Run:
    """Omissions that follow each other for one reason, growing into one record."""

    def __init__(self, omission: Omission, record: Record) -> None:
        self._omission = omission
        self._newest = record

    def takes(self, other: Omission) -> bool:
        mine = self._omission
        return other.first == mine.last + 1 and other.reason == mine.reason

    def extend(self, other: Omission, record: Record) -> None:
        mine = self._omission
        self._newest = record
        self._omission = mine._replace(
            last=other.last,
            messages=mine.messages + other.messages,
            size_bytes=mine.size_bytes + other.size_bytes,
        )

    def as_record(self) -> Record:
        newest = self._newest
        return omitted_record(self._omission, epoch=newest.epoch, time_ns=newest.time_ns)
