"""Appending to the audit log: from the gateway and from commands beside it, one at a time.

Every event opens the files anew, under a lock: another process may have written, or begun a new
part, since. What cannot be written never stops the gateway; it is counted, said once in the
gateway's log, and told by a marker as soon as there is room again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from clouditia.protocol import audit_chain
from clouditia.protocol.audit_chain import START, Head, digest, next_line
from clouditia.protocol.audit_record import MAX_LINE_BYTES, parse_record
from clouditia_gateway.audit import caller
from clouditia_gateway.audit.files import AuditFiles
from clouditia_gateway.audit.sparing import Sparing
from clouditia_gateway.clock import iso_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

log = logging.getLogger("clouditia.gateway")

MAX_PART_BYTES = 10 * 1024 * 1024
MAX_PARTS = 20


class Recorder(Protocol):
    """Takes events."""

    def record(self, event: str, **fields: object) -> None:
        """Write one event."""
        ...

    def refused(self, event: str, **fields: object) -> None:
        """Write one event that anybody can cause as often as they like."""
        ...


class NoAudit:
    """Where nobody wants to know."""

    def record(self, event: str, **fields: object) -> None:
        """Nothing."""

    def refused(self, event: str, **fields: object) -> None:
        """Nothing."""


class AuditLog:
    """The audit log of one state directory.

    Args:
        directory: The state directory.
        max_part_bytes: Size at which a new part is begun.
        max_parts: How many full parts are kept; the oldest goes first, and a marker says so.
    """

    def __init__(
        self, directory: Path, *, max_part_bytes: int = MAX_PART_BYTES, max_parts: int = MAX_PARTS
    ) -> None:
        self.files = AuditFiles(directory)
        self._max_part_bytes = max_part_bytes
        self._max_parts = max_parts
        self._sparing = Sparing()
        self._lost = 0

    def refused(self, event: str, **fields: object) -> None:
        """Write one event that anybody can cause; beyond 60 a minute they are only counted."""
        left_out = self._sparing.count(time.monotonic())
        if left_out is not None:
            more = {"and_not_listed": left_out} if left_out else {}
            self.record(event, **fields, **more)

    def record(self, event: str, **fields: object) -> None:
        """Write one event; raises nothing."""
        address = caller.address.get()
        if address:
            fields.setdefault("from", address)
        try:
            with self._locked() as head_fd:
                self._write(head_fd, event, fields)
        except OSError as exc:
            if not self._lost:
                said = exc.strerror or str(exc)
                log.error("the audit log cannot be written, events are only counted: %s", said)  # noqa: TRY400  (no traceback helps here)
            self._lost += 1
        else:
            if self._lost:
                log.warning("the audit log is written again, %d events are lost", self._lost)
            self._lost = 0

    @contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self.files.head, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _write(self, head_fd: int, event: str, fields: dict[str, object]) -> None:
        kept = Head.decode(os.pread(head_fd, 256, 0))
        with closing(_Part(self.files.current)) as part:
            writer = _Writer(part, head_fd, kept)
            writer.mend()
            if self._lost:
                writer.add(audit_chain.LOST, {"events": self._lost})
            writer.add(event, fields)
            is_full = part.size() >= self._max_part_bytes
        if is_full:
            self._begin_part(head_fd, writer.head)

    def _begin_part(self, head_fd: int, head: Head) -> None:
        """Put the full part aside; the chain goes on in the next."""
        with self.files.current.open("rb") as file:
            first = parse_record(file.readline().rstrip(b"\n"))
        self.files.current.rename(self.files.name_for(first.number if first else head.number))
        for path in self.files.rotated()[: -self._max_parts]:
            last = _Part.last_line_of(path)
            record = parse_record(last)
            with closing(_Part(self.files.current)) as part:
                writer = _Writer(part, head_fd, head)
                number = record.number if record else 0
                writer.add(audit_chain.DROPPED, {"last": number, "sha256": digest(last)})
            head = writer.head
            path.unlink()


class _Part:
    """The open part of the log."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)

    def close(self) -> None:
        os.close(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def tail(self) -> bytes:
        """As much of the end as holds the last line and what was written in part after it."""
        length = 2 * MAX_LINE_BYTES
        return os.pread(self._fd, length, max(0, self.size() - length))

    def append(self, raw: bytes) -> None:
        """Write all of it to the disk.

        Raises:
            OSError: there is no room; nothing of it is left where that can be undone.
        """
        before = self.size()
        try:
            while raw:
                raw = raw[os.write(self._fd, raw) :]
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):  # as on a file that can only be appended to
                os.ftruncate(self._fd, before)
            raise

    @staticmethod
    def last_line_of(path: Path) -> bytes:
        part = _Part(path)
        try:
            return part.tail().rstrip(b"\n").rsplit(b"\n", 1)[-1]
        finally:
            part.close()


class _Writer:
    """Adds lines to a part, after making sure that the chain goes on where it really ends."""

    def __init__(self, part: _Part, head_fd: int, kept: Head | None) -> None:
        self._part = part
        self._head_fd = head_fd
        self._kept = kept
        self.head = kept or START

    def add(self, event: str, fields: Mapping[str, object], *, before: bytes = b"") -> None:
        """One line, and the head after each: a dying writer is at most one line ahead of it."""
        line, head = next_line(self.head, iso_now(), event, fields)
        self._part.append(before + line + b"\n")
        self.head = head
        os.pwrite(self._head_fd, head.encode(), 0)

    def mend(self) -> None:
        """Say what the last writer left unfinished, and go on after it."""
        whole, _, torn = self._part.tail().rpartition(b"\n")
        if whole:
            self._find_head(whole.rsplit(b"\n", 1)[-1])
        if torn:
            fields = {"bytes": len(torn), "sha256": digest(torn)}
            self.add(audit_chain.TORN, fields, before=b"\n")

    def _find_head(self, last: bytes) -> None:
        record = parse_record(last)
        found = None if record is None else Head(record.number, digest(last))
        if found == self._kept:
            return
        if found is not None and record is not None and self._follows(record.prev, found.number):
            self.head = found
            self.add(audit_chain.RECOVERED, {"line": found.number})
        else:
            self.add(audit_chain.DAMAGED, {"sha256": digest(last)})

    def _follows(self, prev: str, number: int) -> bool:
        """Whether a line was written right after the kept head, which then did not follow."""
        if self._kept is None:
            return True
        return prev == self._kept.sha256 and number == self._kept.number + 1
