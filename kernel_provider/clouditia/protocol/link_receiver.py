"""The receiving half of a link: assembly, de-duplication, acknowledgement and credit."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Tuple

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.frames import Data, Gap
from clouditia.protocol.messages import Buffer


class LinkReceiver:
    """Puts pieces together, drops what it has, and counts what the application has handled.

    Args:
        window_bytes: Message bytes that the peer may send ahead of the application.
        max_message_bytes: Largest message that is accepted.
    """

    def __init__(self, window_bytes: int, max_message_bytes: int) -> None:
        self._window = window_bytes
        self._max_message = max_message_bytes
        self.received = 0  # last number that was delivered
        self.handled = 0  # last number that the application is done with
        self._sizes: Deque[Tuple[int, int]] = deque()  # (seq, uncredited bytes), not handled yet
        # Grows with what arrives: a total is only a claim of the peer.
        self._partial: Optional[bytearray] = None
        self._partial_total = 0
        self._partial_freed = 0
        self._taken_bytes = 0  # on this connection
        self._freed_bytes = 0
        self._ack_told = 0
        self._credit_told = 0

    def reset(self) -> None:
        """A fresh connection is up; what the application still holds counts against its credit."""
        self._partial = None
        self._taken_bytes = 0
        self._freed_bytes = -sum(size for _, size in self._sizes)
        self._ack_told = 0
        self._credit_told = self.credit

    def start(self, received: int) -> None:
        """The first message of a receiver that has nothing is ``received + 1``."""
        if self.received == 0:
            self.received = self.handled = received

    @property
    def credit(self) -> int:
        """Cumulative bytes that the peer may send on this connection."""
        return max(0, self._freed_bytes + self._window)

    @property
    def owes_ack(self) -> bool:
        """Whether the peer does not know our newest ack or credit."""
        return self.handled > self._ack_told or self.credit > self._credit_told

    @property
    def is_ack_urgent(self) -> bool:
        """Whether the peer may soon stand still for want of credit."""
        return self.credit - self._credit_told >= self._window // 4

    def told(self, *, credit: bool) -> None:
        """Our ack (and credit) has gone out."""
        self._ack_told = self.handled
        if credit:
            self._credit_told = self.credit

    def take(self, data: Data) -> Optional[Buffer]:
        """Take one piece; returns the message that it completes.

        Raises:
            RemoteProtocolError: the piece is out of turn, too large, or over the credit.
        """
        self._taken_bytes += data.payload.nbytes
        if self._taken_bytes > self.credit:
            raise RemoteProtocolError(
                "%d message bytes arrived, only %d were allowed" % (self._taken_bytes, self.credit)
            )
        if data.seq <= self.received:
            self._freed_bytes += data.payload.nbytes
            return None
        self._check_turn(data)
        if data.payload.nbytes == data.total:
            self._complete(data.seq, data.total)
            return data.payload
        return self._assemble(data)

    def _check_turn(self, data: Data) -> None:
        if data.seq != self.received + 1:
            raise RemoteProtocolError(
                "message %d arrived, %d was expected" % (data.seq, self.received + 1)
            )
        if data.total > self._max_message:
            raise RemoteProtocolError(
                "a message has at most %d bytes, this one has %d" % (self._max_message, data.total)
            )
        filled = len(self._partial) if self._partial is not None else 0
        if data.offset != filled or (
            self._partial is not None and self._partial_total != data.total
        ):
            raise RemoteProtocolError(
                "a piece at %d of message %d arrived, %d was expected"
                % (data.offset, data.seq, filled)
            )

    def _assemble(self, data: Data) -> Optional[Buffer]:
        if self._partial is None:
            self._partial = bytearray()
            self._partial_total = data.total
            self._partial_freed = 0
        self._partial += data.payload
        end = len(self._partial)
        # A message may be larger than the window: what fills more than half of it is credited
        # at once, or the message could never become whole.
        free = max(0, end - self._window // 2)
        self._freed_bytes += free - self._partial_freed
        self._partial_freed = free
        if end < data.total:
            return None
        whole = self._partial
        self._partial = None
        self._complete(data.seq, data.total - free)
        return whole

    def _complete(self, seq: int, uncredited: int) -> None:
        self.received = seq
        self._sizes.append((seq, uncredited))

    def skip(self, gap: Gap) -> Optional[Tuple[int, int]]:
        """Take a gap; returns the numbers (first, last) that are news, if any."""
        if gap.last < gap.first or gap.first > self.received + 1:
            raise RemoteProtocolError(
                "a gap %d to %d arrived, %d was expected" % (gap.first, gap.last, self.received + 1)
            )
        if gap.last <= self.received:
            return None
        first = self.received + 1
        self._partial = None
        self.received = gap.last
        self._sizes.append((gap.last, 0))
        return first, gap.last

    def done(self, seq: int) -> None:
        """The application is done with every message up to ``seq``."""
        while self._sizes and self._sizes[0][0] <= seq:
            last, size = self._sizes.popleft()
            self._freed_bytes += size
            self.handled = last
