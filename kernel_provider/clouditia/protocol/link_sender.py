"""The sending half of a link: which pieces of which message may go out now."""

from __future__ import annotations

from typing import List, Optional, Union

from clouditia.errors import RemoteProtocolError
from clouditia.protocol import frames
from clouditia.protocol.messages import Buffer
from clouditia.protocol.outbox import Omitted, Source, parts_size, slice_parts


class LinkSender:
    """Cuts the messages of a source into DATA frames, within the peer's credit.

    Args:
        source: The numbered messages to send.
        max_fragment_bytes: Largest piece of a message in one frame.
    """

    def __init__(self, source: Source, max_fragment_bytes: int) -> None:
        self._source = source
        self._max_fragment = max_fragment_bytes
        self._next_seq = 0  # 0: not connected, nothing may go out
        self._current: Optional[List[Buffer]] = None  # parts of a message that is partly sent
        self._current_size = 0
        self._offset = 0
        self._sent_bytes = 0
        self._credit = 0
        self.peer_acked = 0

    def start(self, next_seq: int, credit: int) -> None:
        """A connection is up: go on at ``next_seq``, ``credit`` bytes may be sent on it."""
        self.stop()
        self._next_seq = next_seq
        self._credit = credit

    def stop(self) -> None:
        """The connection is gone; a message that was partly sent starts again on the next one."""
        self._next_seq = 0
        self._current = None
        self._offset = self._sent_bytes = self._credit = 0

    @property
    def has_work(self) -> bool:
        """Whether :meth:`frames` would return something."""
        if not self._next_seq or self._next_seq >= self._source.next_seq:
            return False
        return self._credit > self._sent_bytes

    def acknowledged(self, ack: int) -> bool:
        """Take the peer's cumulative ack; returns whether it is news."""
        if ack >= self._source.next_seq:
            raise RemoteProtocolError(
                "message %d was acknowledged, but only %d were sent"
                % (ack, self._source.next_seq - 1)
            )
        if ack <= self.peer_acked:
            return False
        self.peer_acked = ack
        self._source.release(ack)
        return True

    def credited(self, credit: int) -> None:
        """Take the peer's cumulative credit; it never shrinks."""
        self._credit = max(self._credit, credit)

    def frames(self, ack: int, max_bytes: int) -> List[List[Buffer]]:
        """Frames that may go out now, about ``max_bytes`` of message data at most."""
        out: List[List[Buffer]] = []
        budget = max_bytes
        while budget > 0 and self.has_work:
            frame, size = self._next_frame(ack)
            out.append(frame)
            budget -= size
        return out

    def _next_frame(self, ack: int) -> tuple[List[Buffer], int]:
        if self._current is None:
            found: Union[List[Buffer], Omitted] = self._source.read(self._next_seq)
            if isinstance(found, Omitted):
                return self._gap(found), 1
            self._current = found
            self._current_size = parts_size(found)
            self._offset = 0
        return self._piece(self._current, ack)

    def _gap(self, omitted: Omitted) -> List[Buffer]:
        first = self._next_seq
        self._next_seq = omitted.last + 1
        info = {
            "reason": omitted.reason,
            "messages": omitted.messages,
            "bytes": omitted.size_bytes,
        }
        return [frames.encode_gap(first, omitted.last, info)]

    def _piece(self, parts: List[Buffer], ack: int) -> tuple[List[Buffer], int]:
        seq, total, offset = self._next_seq, self._current_size, self._offset
        size = min(total - offset, self._max_fragment, self._credit - self._sent_bytes)
        self._sent_bytes += size
        self._offset += size
        if self._offset == total:
            self._current = None
            self._next_seq += 1
        piece = parts if size == total else slice_parts(parts, offset, size)
        return frames.encode_data(seq, ack, total, offset, piece), size
