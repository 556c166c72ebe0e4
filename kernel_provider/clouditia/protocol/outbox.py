"""Numbered outgoing messages kept in memory until the peer has them."""

from __future__ import annotations

from collections import deque
from typing import Deque, List, NamedTuple, Protocol, Sequence, Union

from clouditia.errors import PackageTooLarge
from clouditia.protocol.messages import MAX_MESSAGE_BYTES, Buffer


class Omitted(NamedTuple):
    """Numbers ``first`` to ``last`` of a source are gone: why, and how much they held."""

    first: int
    last: int
    reason: str = "retention"
    messages: int = 0
    size_bytes: int = 0


class Source(Protocol):
    """Where a link reads its outgoing messages: the contiguous numbers [first_seq, next_seq)."""

    @property
    def first_seq(self) -> int:
        """Oldest number that can still be read."""
        ...

    @property
    def next_seq(self) -> int:
        """Number that the next message will get; at least 1."""
        ...

    def read(self, seq: int) -> Union[List[Buffer], Omitted]:
        """Parts of message ``seq``, or the omitted range that starts at ``seq``."""
        ...

    def release(self, ack: int) -> None:
        """The peer has every message up to ``ack``."""
        ...

    def rebase(self, next_seq: int) -> None:
        """Number the messages that were never sent from ``next_seq`` on."""
        ...


class Outbox:
    """A :class:`Source` in memory, bounded by bytes; what the peer acknowledges is dropped.

    Args:
        max_bytes: Sum of message sizes above which :attr:`is_full` is true. Producers stop reading
            their own input then; ``append`` itself refuses only above twice this size.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._messages: Deque[Sequence[Buffer]] = deque()
        self._first_seq = 1
        self.pending_bytes = 0

    def __len__(self) -> int:
        """Messages that the peer does not have yet."""
        return len(self._messages)

    @property
    def first_seq(self) -> int:
        """Oldest number still held."""
        return self._first_seq

    @property
    def next_seq(self) -> int:
        """Number of the next message."""
        return self._first_seq + len(self._messages)

    @property
    def is_full(self) -> bool:
        """Whether producers should wait."""
        return self.pending_bytes >= self._max_bytes

    def append(self, parts: Sequence[Buffer]) -> int:
        """Add one message; returns its number.

        Raises:
            PackageTooLarge: the message alone is over the protocol's limit, or the box holds twice
                its limit already; nothing was added.
        """
        size = parts_size(parts)
        if size > MAX_MESSAGE_BYTES:
            raise PackageTooLarge(
                "a message has at most %d bytes, this one has %d." % (MAX_MESSAGE_BYTES, size),
                hint="Move large data with files or variables instead.",
            )
        if self.pending_bytes + size > 2 * self._max_bytes:
            raise PackageTooLarge(
                "%d bytes wait for a connection already, the limit is %d."
                % (self.pending_bytes, 2 * self._max_bytes)
            )
        self._messages.append(parts)
        self.pending_bytes += size
        return self.next_seq - 1

    def read(self, seq: int) -> Union[List[Buffer], Omitted]:
        """Parts of message ``seq``; numbers before the first held are omitted."""
        if seq < self._first_seq:
            return Omitted(seq, self._first_seq - 1, "acknowledged before")
        return list(self._messages[seq - self._first_seq])

    def release(self, ack: int) -> None:
        """Drop every message up to ``ack``."""
        while self._messages and self._first_seq <= ack:
            self.pending_bytes -= parts_size(self._messages.popleft())
            self._first_seq += 1

    def rebase(self, next_seq: int) -> None:
        """Start counting at ``next_seq``; only before anything was sent."""
        self._first_seq = next_seq


def parts_size(parts: Sequence[Buffer]) -> int:
    """Bytes of ``parts`` together."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


def slice_parts(parts: Sequence[Buffer], offset: int, length: int) -> List[Buffer]:
    """Bytes ``[offset, offset + length)`` of ``parts`` joined, as views without copying."""
    wanted: List[Buffer] = []
    for part in parts:
        size = part.nbytes if isinstance(part, memoryview) else len(part)
        if offset >= size:
            offset -= size
            continue
        piece = memoryview(part)[offset : offset + length]
        wanted.append(piece)
        length -= piece.nbytes
        offset = 0
        if length <= 0:
            break
    return wanted
