"""What the disk does not take for now: a journal segment in memory, written when it can be."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from clouditia.errors import LocalProtocolError
from clouditia.protocol.journal import (
    Kind,
    Omission,
    Record,
    encode_record,
    frame_bytes,
    omission_of,
)
from clouditia.protocol.journal_index import SegmentIndex, omission_from
from clouditia.protocol.journal_retention import Level, compact_records
from clouditia.protocol.messages import Buffer
from clouditia_gateway.host.notices import OVERFLOW_BYTES
from clouditia_gateway.host.segment_file import SegmentFile


class Overflow:
    """A segment that exists in memory only.

    Args:
        segment: Its number, and that of the file that it becomes.
        max_bytes: Above this, output goes in the order of retention and leaves markers.
    """

    def __init__(self, segment: int, max_bytes: int = OVERFLOW_BYTES) -> None:
        self.segment = segment
        self.size_bytes = 0  # as if nothing was ever dropped: the index counts on it
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._records: list[Record] = []
        self._by_seq: dict[int, Record] = {}

    def add(self, record: Record) -> int:
        """Hold one record; returns the length that its frame would have on disk."""
        length = frame_bytes(encode_record(record))
        self.size_bytes += length
        self._held_bytes += length
        self._records.append(record)
        if record.kind == Kind.DOWN:
            self._by_seq[record.seq] = record
        for level, share in product(Level, (2, 1)):  # the older half first, then all
            if self._held_bytes <= self._max_bytes:
                break
            self._compact(level, len(self._records) // share)
        return length

    @property
    def omitted(self) -> tuple[int, int]:
        """How many messages were left out for want of memory, and how many bytes those had."""
        gaps = [omission_of(item) for item in self._records if item.kind == Kind.OMITTED]
        return sum(gap.messages for gap in gaps), sum(gap.size_bytes for gap in gaps)

    def _compact(self, level: Level, count: int) -> None:
        older, newer = self._records[:count], self._records[count:]
        self._records = [*compact_records(older, level), *newer]
        self._by_seq = {item.seq: item for item in self._records if item.kind == Kind.DOWN}
        self._held_bytes = sum(frame_bytes(encode_record(item)) for item in self._records)

    def read(self, seq: int) -> list[Buffer] | Omission:
        """Parts of message ``seq``, or what is gone from ``seq`` on."""
        record = self._by_seq.get(seq)
        if record is not None:
            return list(record.payload)
        for item in self._records:
            if item.kind == Kind.OMITTED:
                omission = omission_of(item)
                if omission.first <= seq <= omission.last:
                    return omission_from(omission, seq)
        raise LocalProtocolError("message %d is not in the overflow" % seq)

    def write_to(self, path: Path) -> SegmentIndex:
        """Write everything to a new segment file, whole or not at all; returns its index.

        Raises:
            OSError: the disk still does not take it.
        """
        index = SegmentIndex(self.segment)
        unfinished = path.with_suffix(".part")
        try:
            unfinished.unlink(missing_ok=True)
            file = SegmentFile(unfinished)
            try:
                frames = [encode_record(record) for record in self._records]
                file.append([part for frame in frames for part in frame])
                file.sync()
            finally:
                file.close()
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        offset = 0
        for record, frame in zip(self._records, frames, strict=True):
            length = frame_bytes(frame)
            index.add(record, offset, length)
            offset += length
        return index
