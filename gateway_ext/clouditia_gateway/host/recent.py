"""The newest messages in memory, so that live readers never touch the disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from clouditia.protocol.journal import frame_bytes
from clouditia.protocol.messages import Buffer

MAX_BYTES = 4 * 1024 * 1024
#: What the objects around one message take, roughly; small messages are mostly this.
_OVERHEAD_BYTES = 600


class RecentMessages:
    """Parts of recent messages by number, bounded by bytes; the oldest go first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._messages: OrderedDict[int, tuple[Sequence[Buffer], int]] = OrderedDict()
        self._size = 0

    def add(self, seq: int, parts: Sequence[Buffer]) -> None:
        """Remember message ``seq``."""
        size = frame_bytes(parts) + _OVERHEAD_BYTES
        self._messages[seq] = (parts, size)
        self._size += size
        while self._size > self._max_bytes:
            _, (_, dropped) = self._messages.popitem(last=False)
            self._size -= dropped

    def get(self, seq: int) -> Sequence[Buffer] | None:
        """Parts of message ``seq``, or None when it is not among the recent ones."""
        found = self._messages.get(seq)
        return found[0] if found else None
