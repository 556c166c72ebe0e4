"""What the kernel host keeps in memory about its journal: where each number is, who asked for what.

The index is a function of the records: feeding the records of all segments again, in order, gives
the same index. So there is one way in (:meth:`JournalIndex.add`), used for records just written
and for records read back after a crash.

Source: docs/protocol.md, "Streams" and `GAP`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Any, Dict, List, NamedTuple, Optional, Union

from clouditia.errors import LocalProtocolError
from clouditia.protocol.journal import (
    Kind,
    Omission,
    OmissionReason,
    Record,
    Tag,
    exit_facts_of,
    omission_of,
    parent_id_of,
)
from clouditia.protocol.journal_requests import KnownRequest, RequestLog, RequestState


class Location(NamedTuple):
    """Where the frame of a message lies: read ``length`` bytes at ``offset`` of the segment."""

    segment: int
    offset: int
    length: int


class SegmentIndex:
    """Where the numbers of one segment are; about 8 bytes a message, 24 a run of messages.

    Build one while rewriting a segment and hand it to :meth:`JournalIndex.replace`.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.first_seq = 0  # 0 until the first record
        self.oldest_ns = 0
        self.newest_ns = 0
        self.size_bytes = 0
        #: Bytes of DOWN and UP frames by :class:`Tag`; unknown tags count as NOTICE: they stay.
        self.tag_bytes = [0] * len(Tag)
        self._locations = array("Q")  # offset << 32 | length
        self._omitted = array("Q")  # messages, bytes, reason
        # Spans of numbers that follow each other, either readable (ref = 2 * index into
        # _locations) or omitted (ref = 2 * row of _omitted + 1).
        self._span_first = array("Q")
        self._span_last = array("Q")
        self._span_ref = array("Q")

    def add(self, record: Record, offset: int, length: int) -> None:
        """Note a record of this segment.

        Raises:
            LocalProtocolError: its number was there already.
        """
        if not self.first_seq:
            self.first_seq = record.seq
            self.oldest_ns = record.time_ns
        self.newest_ns = max(self.newest_ns, record.time_ns)
        self.size_bytes += length
        if record.kind in (Kind.DOWN, Kind.UP):
            tag = record.tag if record.tag < len(self.tag_bytes) else Tag.NOTICE
            self.tag_bytes[tag] += length
        if record.kind == Kind.DOWN:
            self._add_down(record.seq, offset, length)
        elif record.kind == Kind.OMITTED:
            self._add_omission(omission_of(record))

    def _add_down(self, seq: int, offset: int, length: int) -> None:
        if self._span_last and not self._span_ref[-1] & 1 and seq == self._span_last[-1] + 1:
            self._span_last[-1] = seq
        else:
            self._add_span(seq, seq, 2 * len(self._locations))
        self._locations.append(offset << 32 | length)

    def _add_omission(self, omission: Omission) -> None:
        row = len(self._omitted) // 3
        self._add_span(omission.first, omission.last, 2 * row + 1)
        self._omitted.extend((omission.messages, omission.size_bytes, omission.reason))

    def _add_span(self, first: int, last: int, ref: int) -> None:
        if last < first or first <= self.last_seq:
            raise LocalProtocolError(
                "messages %d to %d were written to segment %d after message %d"
                % (first, last, self.number, self.last_seq)
            )
        self._span_first.append(first)
        self._span_last.append(last)
        self._span_ref.append(ref)

    @property
    def last_seq(self) -> int:
        """The last number in this segment, readable or omitted; 0 when there is none."""
        return self._span_last[-1] if self._span_last else 0

    def lookup(self, seq: int) -> Union[Location, Omission, None]:
        """Where ``seq`` is, or the omission that covers it; None when it is not of this segment."""
        span = bisect_right(self._span_first, seq) - 1
        if span < 0 or seq > self._span_last[span]:
            return None
        ref = self._span_ref[span]
        if ref & 1:
            messages, size_bytes, reason = self._omitted[3 * (ref >> 1) : 3 * (ref >> 1) + 3]
            first, last = self._span_first[span], self._span_last[span]
            return Omission(first, last, messages, size_bytes, OmissionReason(reason))
        packed = self._locations[(ref >> 1) + seq - self._span_first[span]]
        return Location(self.number, packed >> 32, packed & 0xFFFFFFFF)

    def next_known(self, seq: int) -> Optional[int]:
        """The first number after ``seq`` that begins a span of this segment, or None."""
        span = bisect_right(self._span_first, seq)
        return self._span_first[span] if span < len(self._span_first) else None


class JournalIndex:
    """The journal of one kernel, in memory.

    Attributes:
        next_seq: Number that the next message gets; at least 1.
        epoch: Epoch of the last record; 0 before the first.
        exit_facts: What ended the kernel of this epoch, None while it lives as far as is known.
    """

    def __init__(self) -> None:
        self.next_seq = 1
        self.epoch = 0
        self.exit_facts: Optional[Dict[str, Any]] = None
        self.requests = RequestLog()
        self._segments: Dict[int, SegmentIndex] = {}
        self._numbers: List[int] = []  # of segments, ascending
        self._firsts: List[int] = []  # first number of each of them

    def add(self, record: Record, segment: int, offset: int, length: int) -> None:
        """Note a record that stands at ``offset`` of ``segment``; in the order of the journal.

        Raises:
            LocalProtocolError: the number of the message was given already, or the segment is
                older than the newest.
            RemoteProtocolError: the payload is not what this program writes.
        """
        first = omission_of(record).first if record.kind == Kind.OMITTED else record.seq
        if record.kind in (Kind.DOWN, Kind.OMITTED) and first < self.next_seq:
            raise LocalProtocolError(
                "message %d was written to the journal, the next is %d" % (first, self.next_seq)
            )
        self._segment(segment, record.seq).add(record, offset, length)
        self.epoch = max(self.epoch, record.epoch)
        self.next_seq = max(self.next_seq, record.seq)  # a jump means that messages are lost
        self._note(record)

    def _segment(self, number: int, first_seq: int) -> SegmentIndex:
        if number not in self._segments:
            if self._numbers and number < self._numbers[-1]:
                raise LocalProtocolError(
                    "segment %d begins after segment %d" % (number, self._numbers[-1])
                )
            if self._firsts and first_seq < self._firsts[-1]:
                raise LocalProtocolError(
                    "segment %d begins at message %d, the one before at %d"
                    % (number, first_seq, self._firsts[-1])
                )
            self._segments[number] = SegmentIndex(number)
            self._numbers.append(number)
            self._firsts.append(first_seq)
        return self._segments[number]

    def _note(self, record: Record) -> None:
        if record.kind == Kind.DOWN:
            self.next_seq = record.seq + 1
            if record.tag in (Tag.REPLY, Tag.IDLE):
                self.requests.answered(parent_id_of(record), record.tag, record.seq)
        elif record.kind == Kind.OMITTED:
            self.next_seq = omission_of(record).last + 1
        elif record.kind == Kind.UP:
            self.requests.add(record)
        elif record.kind == Kind.EPOCH:
            self.exit_facts = None
        elif record.kind == Kind.EXIT:
            self.exit_facts = exit_facts_of(record)

    def replace(self, rewritten: SegmentIndex) -> None:
        """Put the index of a rewritten segment in the place of the old one.

        Raises:
            LocalProtocolError: there is no such segment, or it is the one being written.
        """
        if rewritten.number not in self._numbers[:-1]:
            raise LocalProtocolError("segment %d is not a closed one" % rewritten.number)
        self._segments[rewritten.number] = rewritten

    # --- numbers --------------------------------------------------------------------------------

    def find(self, seq: int) -> Union[Location, Omission]:
        """Where message ``seq`` is, or what is gone from ``seq`` on, in one piece.

        Raises:
            LocalProtocolError: no message has this number yet.
        """
        found = self._lookup(seq)
        if isinstance(found, Location):
            return found
        while found.last + 1 < self.next_seq:
            following = self._lookup(found.last + 1)
            if isinstance(following, Location):
                break
            found = _merged(found, following)
        return found

    def _lookup(self, seq: int) -> Union[Location, Omission]:
        if not 1 <= seq < self.next_seq:
            raise LocalProtocolError(
                "message %d was asked for, the journal has 1 to %d" % (seq, self.next_seq - 1)
            )
        place = bisect_right(self._firsts, seq) - 1
        if place >= 0:
            found = self._segments[self._numbers[place]].lookup(seq)
            if isinstance(found, Omission):
                return omission_from(found, seq)
            if found is not None:
                return found
        last = self._next_known(seq, max(place, 0)) - 1
        return Omission(seq, last, 0, 0, OmissionReason.DAMAGED)

    def _next_known(self, seq: int, place: int) -> int:
        for number in self._numbers[place:]:
            known = self._segments[number].next_known(seq)
            if known is not None:
                return known
        return self.next_seq

    @property
    def first_seq(self) -> int:
        """The oldest number that can still be read; ``next_seq`` when there is none."""
        if self.next_seq == 1:
            return 1
        found = self.find(1)
        return 1 if isinstance(found, Location) else found.last + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size_bytes for segment in self._segments.values())

    def segments(self) -> List[SegmentIndex]:
        """All segments, oldest first; the last one is being written."""
        return [self._segments[number] for number in self._numbers]

    # --- requests -------------------------------------------------------------------------------

    def known(self, msg_id: str, msg_type: str = "execute_request") -> Optional[KnownRequest]:
        """Where the messages of a recorded request are, or None when it is new."""
        return self.requests.known(msg_id, msg_type)

    def unfinished(self) -> List[RequestState]:
        """Requests without reply or idle, in the order in which they were recorded."""
        return self.requests.unfinished()

    def oldest_unfinished_seq(self) -> int:
        """Where a new client starts: the first message of the oldest unfinished request."""
        return min([state.first_seq for state in self.unfinished()] or [self.next_seq])

    def received_from(self, client_id: str) -> int:
        """The last request number recorded for this client; 0 when there is none."""
        return self.requests.received_from(client_id)


def omission_from(omission: Omission, seq: int) -> Omission:
    """The part of an omission from ``seq`` on; its bytes are then a share of the whole."""
    left = omission.last - seq + 1
    whole = omission.last - omission.first + 1
    messages = left if omission.messages == whole else omission.messages
    return omission._replace(
        first=seq, messages=messages, size_bytes=omission.size_bytes * left // whole
    )


def _merged(one: Omission, other: Omission) -> Omission:
    """Two omissions that follow each other as one; damage is the reason that counts."""
    return Omission(
        one.first,
        other.last,
        one.messages + other.messages,
        one.size_bytes + other.size_bytes,
        max(one.reason, other.reason),
    )
