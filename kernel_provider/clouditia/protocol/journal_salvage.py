"""Reads a damaged segment to its end: what is good comes out, what is not is named.

After damage the reader looks for the next place where a whole frame stands: where the damaged one
says that it ends, if its header is good, and else wherever a header and a payload with matching
checksums begin. Nothing is looked for behind a torn frame: nobody has written anything there.

What was between cannot be given a place in the row of numbers, but the row shows it: a number that
no frame has is gone, and the index answers for it with an omission whose reason is damage.

Source: docs/host-protocol.md, "A damaged journal".
"""

from __future__ import annotations

import struct
import zlib
from typing import Iterable, Iterator, List, NamedTuple, Optional

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.journal import (
    HEADER_BYTES,
    MAGIC,
    Corruption,
    Frame,
    Kind,
    Omission,
    OmissionReason,
    Record,
    omission_of,
    omitted_record,
    read_frame,
)
from clouditia.protocol.messages import Buffer

#: The end of a frame's header: length and checksum of the payload, checksum of the header.
_HEADER_END = struct.Struct(">III")


class Damage(NamedTuple):
    """``length`` bytes at ``offset`` that are no frame; good ones follow."""

    offset: int
    length: int
    reason: str


class SalvageReader:
    """Iterates over all good frames of one segment, also those behind damage.

    Payloads are views into ``buffer``. Iterating again starts at the first frame again.

    Attributes:
        end: Where the last good frame ends; nothing behind it can be read.
        damages: What was passed over between good frames.
        tail: What is wrong behind :attr:`end`, or None when the segment ends there.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._view = memoryview(buffer)
        self.end = 0
        self.damages: List[Damage] = []
        self.tail: Optional[Corruption] = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the good frames.

        Raises:
            VersionMismatch: a newer version wrote this journal.
        """
        self.end = 0
        self.damages = []
        self.tail = None
        offset = 0
        while offset < self._view.nbytes:
            try:
                frame = read_frame(self._view, offset)
            except RemoteProtocolError as exc:
                following = self._next_good(offset)
                if following is None:
                    self.tail = Corruption(offset, exc.message)
                    return
                self.damages.append(Damage(offset, following - offset, exc.message))
                offset = following
                continue
            offset = self.end = offset + frame.length
            yield frame

    def _next_good(self, offset: int) -> Optional[int]:
        """Where the next good frame begins after the bad one at ``offset``."""
        end = _declared_end(self._view, offset)
        if end is not None:
            if end >= self._view.nbytes:
                return None  # torn, or the last one
            if self._is_good(end):
                return end
        rest = bytes(self._view[offset:])
        place = rest.find(MAGIC, 1)
        while place > 0:
            if self._is_good(offset + place):
                return offset + place
            place = rest.find(MAGIC, place + 1)
        return None

    def _is_good(self, offset: int) -> bool:
        try:
            read_frame(self._view, offset)
        except RemoteProtocolError:
            return False
        return True


def _declared_end(view: memoryview, offset: int) -> Optional[int]:
    """Where the frame at ``offset`` says that it ends; None where its header is not good."""
    header = view[offset : offset + HEADER_BYTES]
    if header.nbytes < HEADER_BYTES:
        return None
    length, _, header_crc = _HEADER_END.unpack(header[-_HEADER_END.size :])
    if zlib.crc32(header[:-4]) != header_crc:
        return None
    return offset + HEADER_BYTES + int(length)


def with_markers(records: Iterable[Record]) -> Iterator[Record]:
    """The records of a segment, with an OMITTED record wherever numbers are missing between two."""
    expected: Optional[int] = None
    for record in records:
        if expected is not None and record.seq > expected:
            missing = Omission(expected, record.seq - 1, 0, 0, OmissionReason.DAMAGED)
            yield omitted_record(missing, epoch=record.epoch, time_ns=record.time_ns)
        expected = _next_after(record)
        yield record


def _next_after(record: Record) -> int:
    if record.kind == Kind.OMITTED:
        return omission_of(record).last + 1
    return record.seq + 1 if record.kind == Kind.DOWN else record.seq
