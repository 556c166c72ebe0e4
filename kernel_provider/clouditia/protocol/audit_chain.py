"""The audit log's chain: each line holds its number and the sha256 of the line before it.

Whoever edits, deletes or inserts a line without rewriting all that follow, and the head, is found
out. Lines are JSON objects; the hash is over their bytes as they stand in the file, without the
line's end. A line that a dying process wrote only in part stays where it is: the next writer ends
it and vouches for it with a marker, so that the file is only ever appended to.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple

from clouditia.protocol.audit_record import Record, parse_record

__all__ = ["GENESIS", "START", "Fault", "Head", "Report", "check", "digest", "next_line"]

#: Stands for the line before the first.
GENESIS = "0" * 64
#: Markers that the writer itself puts into the log.
TORN, LOST, DROPPED = "audit_torn", "audit_lost", "audit_dropped"
RECOVERED, DAMAGED = "audit_recovered", "audit_damaged"

MAX_TEXT_CHARS = 200
_HEAD_BYTES = 20 + 1 + 64 + 1


class Head(NamedTuple):
    """Number and hash of the last line; kept beside the log, so that its end cannot be cut off."""

    number: int
    sha256: str

    def encode(self) -> bytes:
        """Always as many bytes, so that it is overwritten in place."""
        return b"%020d %s\n" % (self.number, self.sha256.encode("ascii"))

    @classmethod
    def decode(cls, raw: bytes) -> Optional[Head]:
        """What :meth:`encode` wrote, or None for anything else."""
        number, space, rest = raw[:20], raw[20:21], raw[21:]
        is_whole = len(raw) == _HEAD_BYTES and space == b" " and rest[-1:] == b"\n"
        if not is_whole or not number.isdigit():
            return None
        return cls(int(number), rest[:-1].decode("ascii", "replace"))


START = Head(0, GENESIS)


def digest(line: bytes) -> str:
    """The hash of a line."""
    return hashlib.sha256(line).hexdigest()


def next_line(head: Head, at: str, event: str, fields: Mapping[str, object]) -> Tuple[bytes, Head]:
    """The line that follows ``head``, without its end, and the head that it makes.

    Args:
        head: Number and hash of the line before.
        at: Time, ISO 8601.
        event: Name of the event.
        fields: What else is known; long texts are cut, so that no peer can make a line long.
    """
    record: Dict[str, Any] = {"n": head.number + 1, "at": at, "event": event}
    record.update((name, _bounded(value)) for name, value in fields.items())
    record["prev"] = head.sha256
    line = json.dumps(record, separators=(",", ":")).encode("ascii")
    return line, Head(head.number + 1, digest(line))


def _bounded(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


class Fault(NamedTuple):
    """The first thing that is wrong: which line, and whether it was edited, deleted, inserted."""

    line: int
    kind: str
    text: str


class Report(NamedTuple):
    """What :func:`check` found."""

    first: int
    head: Head
    fault: Optional[Fault] = None
    torn: int = 0  # lines that were written in part, and say so
    lost: int = 0  # events that the writer could not write, and counted


class _Seen(NamedTuple):
    """One line with the one after it."""

    raw: bytes
    record: Optional[Record]
    after: Optional[Record]

    @property
    def continues(self) -> bool:
        """Whether the line after this one was written after exactly this one."""
        return self.after is not None and self.after.prev == digest(self.raw)


def check(lines: Iterable[bytes], head: Optional[Head]) -> Report:
    """Walk the chain and stop at the first fault.

    Args:
        lines: All lines that are there, without their ends, oldest first.
        head: What is kept beside the log; None if that is gone.
    """
    checker = _Checker(head)
    walk = _with_next(lines)
    for seen in walk:
        fault = checker.take(seen)
        if fault is not None:
            return checker.report(checker.first_of(fault, walk))
    return checker.report(checker.end())


def _with_next(lines: Iterable[bytes]) -> Iterator[_Seen]:
    held: Optional[Tuple[bytes, Optional[Record]]] = None
    for line in lines:
        record = parse_record(line)
        if held is not None:
            yield _Seen(held[0], held[1], record)
        held = (line, record)
    if held is not None:
        yield _Seen(held[0], held[1], None)


class _Checker:
    def __init__(self, kept: Optional[Head]) -> None:
        self._kept = kept
        self._head = START
        self._first = 0
        self._before_first = START  # the last line of the parts that were removed
        self._is_vouched = False
        self._torn = 0
        self._lost = 0

    def report(self, fault: Optional[Fault]) -> Report:
        return Report(self._first, self._head, fault, self._torn, self._lost)

    def take(self, seen: _Seen) -> Optional[Fault]:
        """One line; returns what is wrong with it or with the one before."""
        if self._is_mended(seen):
            self._torn += 1
            return None
        record = seen.record
        if record is None:
            return self._unreadable(seen)
        if self._first == 0:
            self._begin(record)
        fault = self._chain_fault(seen, record)
        if fault is None:
            self._advance(seen, record)
            fault = self._head_fault(seen)
        return fault

    def first_of(self, fault: Fault, rest: Iterable[_Seen]) -> Fault:
        """This fault, unless the beginning is missing and nothing after it vouches for that."""
        for seen in rest:
            if seen.record is not None:
                self._look_for_voucher(seen.record)
        return self._beginning_fault() or fault

    def _begin(self, record: Record) -> None:
        self._first = record.number
        if record.number > 1:  # older files were removed; a marker must say so
            self._before_first = Head(record.number - 1, record.prev)
            self._head = self._before_first

    def _is_mended(self, seen: _Seen) -> bool:
        after = seen.after
        return (
            after is not None
            and after.event == TORN
            and after.number == self._head.number + 1
            and after.prev == self._head.sha256
            and after.fields.get("sha256") == digest(seen.raw)
        )

    def _unreadable(self, seen: _Seen) -> Fault:
        number = self._head.number + 1
        if seen.after is not None and seen.after.prev == self._head.sha256:
            return Fault(number, "inserted", f"what stands before line {number} is no event")
        return Fault(number, "edited", f"line {number} is no event any more")

    def _chain_fault(self, seen: _Seen, record: Record) -> Optional[Fault]:
        expected = self._head.number + 1
        if record.number == expected and record.prev == self._head.sha256:
            return None
        if record.number < expected:
            return Fault(record.number, "inserted", f"line {record.number} stands there twice")
        if record.number > expected and record.prev != self._head.sha256:
            return Fault(expected, "deleted", _missing(expected, record.number - 1))
        is_genuine = seen.continues or self._is_kept(Head(record.number, digest(seen.raw)))
        if is_genuine and record.number == expected and self._head.number:
            number = self._head.number
            return Fault(number, "edited", f"line {number} is not what line {expected} followed")
        if seen.after is not None and seen.after.prev == self._head.sha256:
            return Fault(expected, "inserted", f"a line was put before line {expected}")
        return Fault(expected, "edited", f"line {expected} does not follow the line before it")

    def _is_kept(self, head: Head) -> bool:
        return head == self._kept

    def _advance(self, seen: _Seen, record: Record) -> None:
        self._head = Head(record.number, digest(seen.raw))
        if record.event == LOST:
            self._lost += _count(record.fields.get("events"))
        self._look_for_voucher(record)

    def _look_for_voucher(self, record: Record) -> None:
        """Markers of removed parts name the last line that is gone."""
        if record.event == DROPPED:
            last = Head(_count(record.fields.get("last")), str(record.fields.get("sha256")))
            self._is_vouched = self._is_vouched or last == self._before_first

    def _head_fault(self, seen: _Seen) -> Optional[Fault]:
        """Compare with the kept head where the chain passes it."""
        kept, number = self._kept, self._head.number
        if kept is None:
            return None
        if number == kept.number and self._head != kept:
            if seen.after is not None and seen.after.number == number:
                return Fault(number, "inserted", f"line {number} stands there twice")
            return Fault(number, "edited", f"line {number} is not what was written last")
        # A writer that dies between line and head leaves one line beyond it, and never two.
        if number > kept.number + 1:
            return Fault(number, "inserted", f"line {number} was not written by Clouditia")
        return None

    def end(self) -> Optional[Fault]:
        """What is missing at the end, or at the beginning."""
        kept, number = self._kept, self._head.number
        beginning = self._beginning_fault()
        if beginning is None and kept is not None and kept.number > number:
            return Fault(number + 1, "deleted", _missing(number + 1, kept.number))
        return beginning

    def _beginning_fault(self) -> Optional[Fault]:
        if self._before_first == START or self._is_vouched:
            return None
        return Fault(1, "deleted", _missing(1, self._before_first.number))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _missing(first: int, last: int) -> str:
    if first == last:
        return f"line {first} is missing"
    return f"lines {first} to {last} are missing"
