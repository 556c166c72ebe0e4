"""The journal on disk and in memory: what a kernel said is written here before anyone is told.

The form of records, the index and what to forget are decided in :mod:`clouditia.protocol.journal`
and its siblings; here are the files, the recent messages in memory, and what happens when a disk
does not take more.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from clouditia.atomic_files import write_private
from clouditia.errors import LocalProtocolError, RemoteProtocolError
from clouditia.protocol.journal import (
    Frame,
    Kind,
    Omission,
    Record,
    encode_record,
    frame_bytes,
    read_frame,
    recovery_record,
)
from clouditia.protocol.journal_index import JournalIndex, SegmentIndex
from clouditia.protocol.journal_retention import Retention
from clouditia.protocol.journal_salvage import SalvageReader
from clouditia.protocol.messages import Buffer
from clouditia.protocol.outbox import Omitted
from clouditia_gateway.host.journal_compaction import (
    rewrite_segment,
    sync_directory,
    tell_damage,
)
from clouditia_gateway.host.journal_overflow import Overflow
from clouditia_gateway.host.recent import RecentMessages
from clouditia_gateway.host.segment_file import SegmentFile

log = logging.getLogger("clouditia.host")

_SUFFIX = ".journal"
#: What a host that was killed while it rewrote a segment has left.
_UNFINISHED = ("*.new", "*.now", "*.part")
_OPEN_SEGMENTS = 4


class JournalFiles:
    """A kernel's journal; also the :class:`~clouditia.protocol.outbox.Source` of every link.

    Args:
        directory: Where the segments are; made when missing.
        retention: When a new segment begins.
        now_ns: The clock that stamps records; it must not jump.
    """

    def __init__(self, directory: Path, retention: Retention, now_ns: Callable[[], int]) -> None:
        self.index = JournalIndex()
        self.overflow: Overflow | None = None
        self.on_trouble: Callable[[OSError], None] = lambda _: None
        self._directory = directory
        self._retention = retention
        self._now_ns = now_ns
        self._recent = RecentMessages()
        self._open: OrderedDict[int, SegmentFile] = OrderedDict()
        self._current = 1  # number of the segment being written

    # --- the source of links ---------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        """Oldest number that can still be read."""
        return self.index.first_seq

    @property
    def next_seq(self) -> int:
        """Number of the next message."""
        return self.index.next_seq

    def read(self, seq: int) -> list[Buffer] | Omitted:
        """Parts of message ``seq``, or what is gone from ``seq`` on."""
        recent = self._recent.get(seq)
        if recent is not None:
            return list(recent)
        found = self.index.find(seq)
        if isinstance(found, Omission):
            return _omitted(found)
        if self.overflow is not None and found.segment == self.overflow.segment:
            kept = self.overflow.read(seq)
            return kept if isinstance(kept, list) else _omitted(kept)
        try:
            segment = self._segment(found.segment)
            frame = read_frame(segment.read(found.offset, found.length))
        except (OSError, RemoteProtocolError) as exc:
            log.warning("message %d cannot be read from the journal: %s", seq, exc)
            return Omitted(seq, seq, "damaged", 1, found.length)
        return list(frame.record.payload)

    def release(self, ack: int) -> None:
        """Acknowledgements move cursors; only retention removes messages."""

    def rebase(self, next_seq: int) -> None:
        """A journal's numbers are given once and for all."""
        raise LocalProtocolError(f"a journal cannot be renumbered to {next_seq}")

    # --- writing ---------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write ``records``; on return they are in the file (or, in need, in memory).

        What a kernel has said at once may be more than a segment: it is written part by part, so
        that room is made between.
        """
        for group in _groups(records, self._retention.reserve_bytes // 8):
            self._append_group(group)

    def _append_group(self, records: Sequence[Record]) -> None:
        if self.overflow is None:
            self._roll_if_due(sum(frame_bytes(record.payload) for record in records))
            try:
                self._append_to_file(records)
            except OSError as exc:
                self.overflow = Overflow(self._current + 1)
                self._current = self.overflow.segment
                self.on_trouble(exc)
        if self.overflow is not None:
            self._append_to_overflow(self.overflow, records)
        for record in records:
            if record.kind == Kind.DOWN:
                self._recent.add(record.seq, record.payload)

    def _append_to_file(self, records: Sequence[Record]) -> None:
        frames = [encode_record(record) for record in records]
        segment = self._segment(self._current)
        offset = segment.size
        segment.append([part for frame in frames for part in frame])
        for record, frame in zip(records, frames, strict=True):
            length = frame_bytes(frame)
            self.index.add(record, self._current, offset, length)
            offset += length

    def _append_to_overflow(self, overflow: Overflow, records: Sequence[Record]) -> None:
        for record in records:
            offset = overflow.size_bytes
            length = overflow.add(record)
            self.index.add(record, overflow.segment, offset, length)

    def _roll_if_due(self, coming_bytes: int) -> None:
        segments = self.index.segments()
        if segments and self._retention.should_roll(segments[-1], self._now_ns()):
            self._make_room(segments, coming_bytes)
            self._current = segments[-1].number + 1
        elif coming_bytes > self._retention.reserve_bytes // 8:
            self._make_room(segments, coming_bytes)  # small ones have room in the reserve

    def _make_room(self, segments: list[SegmentIndex], coming_bytes: int) -> None:
        """Compact at once what upkeep has not yet come to: no kernel may fill the disk."""
        reserve_bytes = max(self._retention.reserve_bytes, coming_bytes)
        for job in self._retention.plan(segments, self._now_ns(), reserve_bytes):
            path = self.path_of(job.segment)
            new_path = path.with_suffix(".now")  # upkeep may be at work on the same one
            try:
                self.replace(rewrite_segment(path, job, new_path), new_path)
            except OSError as exc:
                log.warning("journal segment %d cannot be compacted: %s", job.segment, exc)
                return

    def recover(self, record: Record) -> bool:
        """Write what memory holds since the disk failed, then ``record``; returns success."""
        overflow = self.overflow
        if overflow is None:
            return True
        try:
            rewritten = overflow.write_to(self.path_of(overflow.segment))
        except OSError:
            return False
        self.overflow = None
        self._current = overflow.segment + 1
        self.append([record])
        self.index.replace(rewritten)
        return True

    # --- files -----------------------------------------------------------------------------------

    def path_of(self, segment: int) -> Path:
        """Where a segment is."""
        return self._directory / f"{segment:08d}{_SUFFIX}"

    def load(self, boot_id: str = "") -> None:
        """Read what an earlier host wrote.

        Damage between good frames is passed over: what was there is gone, and the gap in the
        numbers says so. A torn or damaged end is cut, and so many numbers are left out that none
        is given twice.

        Args:
            boot_id: Of this run of the machine. After another one the last writes may never have
                reached the disk, so that its end counts as torn, however whole it looks.

        Raises:
            VersionMismatch: a newer Clouditia wrote it.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for left_over in chain.from_iterable(map(self._directory.glob, _UNFINISHED)):
            left_over.unlink(missing_ok=True)
        numbers = sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}"))
        is_end_torn = False
        for number in numbers:
            is_end_torn = not self._load_segment(number)
        if numbers:
            self._current = numbers[-1] + 1
        if boot_id and self._is_of_another_boot(boot_id) and numbers:
            is_end_torn = True
        if is_end_torn:
            facts = {"next_seq": self.next_seq, "epoch": self.index.epoch}
            self.append([recovery_record(**facts, time_ns=self._now_ns())])

    def _is_of_another_boot(self, boot_id: str) -> bool:
        path = self._directory / "boot_id"
        try:
            if path.read_text("utf-8") == boot_id:
                return False
        except (OSError, ValueError):
            pass  # none, or not readable: who knows
        try:
            write_private(path, boot_id)
        except OSError as exc:
            log.warning("the boot id cannot be written: %s", exc)
        return True

    def _load_segment(self, number: int) -> bool:
        """Add a segment to the index; returns whether it is whole at its end."""
        try:
            file = SegmentFile(self.path_of(number))
        except OSError as exc:
            log.warning("journal segment %d cannot be read: %s", number, exc)
            return False
        try:
            reader = SalvageReader(file.map())
            for frame in reader:
                self._load_frame(number, frame)
            tell_damage(number, reader)
            if reader.tail is None:
                return True
            log.warning(
                "journal segment %d is cut from %d to %d bytes: %s",
                number, file.size, reader.end, reader.tail.reason,
            )  # fmt: skip
            file.cut(reader.end)
        except OSError as exc:
            log.warning("journal segment %d: %s", number, exc)
        finally:
            file.close()
        return False

    def _load_frame(self, number: int, frame: Frame) -> None:
        try:
            self.index.add(frame.record, number, frame.offset, frame.length)
        except (LocalProtocolError, RemoteProtocolError) as exc:
            # Whole, but not what stood there: an old segment that came back, for example.
            log.warning("journal segment %d at %d is left out: %s", number, frame.offset, exc)

    def replace(self, rewritten: SegmentIndex, path: Path) -> None:
        """Put a compacted segment in the place of the old one."""
        path.replace(self.path_of(rewritten.number))
        sync_directory(self._directory)
        stale = self._open.pop(rewritten.number, None)
        if stale is not None:
            stale.close()
        self.index.replace(rewritten)

    def current_descriptor(self) -> int | None:
        """A descriptor to sync what was written last; the caller closes it."""
        segment = self._open.get(self._current)
        return segment.duplicate() if segment is not None else None

    def close(self) -> None:
        """Close the files."""
        for segment in self._open.values():
            segment.close()
        self._open.clear()

    def _segment(self, number: int) -> SegmentFile:
        segment = self._open.get(number)
        if segment is None:
            segment = SegmentFile(self.path_of(number))
            self._open[number] = segment
        self._open.move_to_end(number)
        if len(self._open) > _OPEN_SEGMENTS:
            oldest = next(item for item in self._open if item not in (number, self._current))
            self._open.pop(oldest).close()
        return segment


def _groups(records: Sequence[Record], max_bytes: int) -> Iterator[Sequence[Record]]:
    """The records in groups of about ``max_bytes``, none of them split."""
    first = size = 0
    for place, record in enumerate(records):
        length = frame_bytes(record.payload)
        if size and size + length > max_bytes:
            yield records[first:place]
            first, size = place, 0
        size += length
    yield records[first:]


def _omitted(found: Omission) -> Omitted:
    reason = found.reason.name.lower()
    return Omitted(found.first, found.last, reason, found.messages, found.size_bytes)
