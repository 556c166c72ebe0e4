"""Sends some messages of a websocket twice; without I/O.

TCP delivers no byte twice, so a proxy that repeated bytes would only break the stream. What does
come twice in real life is a message: sent, cut off before it was acknowledged, and sent again. So
this reads the frames of a websocket and repeats whole messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
_FIN, _COMPRESSED, _OPCODE, _TEXT, _BINARY = 0x80, 0x40, 0x0F, 1, 2
_MASKED, _LENGTH = 0x80, 0x7F


@dataclass(frozen=True)
class Rule:
    """Which messages of a connection come twice.

    Attributes:
        every: Every so many-th; 1 for all.
        after: The first so many of a connection come once.
        where: Looks at the payload; what it refuses comes once.
    """

    every: int = 1
    after: int = 0
    where: Callable[[bytes], bool] | None = None

    def applies(self, number: int, payload: Callable[[], bytes]) -> bool:
        """Whether message ``number`` (from 0) comes twice."""
        if number < self.after or (number - self.after) % self.every:
            return False
        return self.where is None or self.where(payload())


class Duplicator:
    """One direction of one connection: bytes in, bytes out.

    A connection that does not become a websocket passes unchanged, and so do messages that are
    compressed or come in fragments, and pings and the like.

    Attributes:
        repeated: Messages that came twice so far.
        is_active: Cleared to let messages pass once from now on.
    """

    def __init__(self, rule: Rule) -> None:
        self.repeated = 0
        self.is_active = True
        self._rule = rule
        self._buffer = bytearray()
        self._is_upgraded = False
        self._passes_all = False
        self._messages = 0

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; returns what may go on."""
        if self._passes_all:
            return data
        self._buffer += data
        out = bytearray() if self._is_upgraded else bytearray(self._head())
        while self._is_upgraded and (frame := self._frame()):
            out += frame
        return bytes(out)

    def _head(self) -> bytes:
        end = self._buffer.find(_HEAD_END)
        if end < 0 and len(self._buffer) < _MAX_HEAD_BYTES:
            return b""
        size = end + len(_HEAD_END)
        self._is_upgraded = end >= 0 and b"upgrade: websocket" in self._buffer[:size].lower()
        self._passes_all = not self._is_upgraded
        return self._take(size if self._is_upgraded else len(self._buffer))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _frame(self) -> bytes:
        """The next whole frame, twice if the rule says so; empty if there is none yet."""
        sizes = _frame_sizes(self._buffer)
        if sizes is None or len(self._buffer) < sum(sizes):
            return b""
        first, (head_size, payload_size) = self._buffer[0], sizes
        is_masked = bool(self._buffer[1] & _MASKED)
        frame = self._take(head_size + payload_size)
        if first & (_FIN | _COMPRESSED) != _FIN or first & _OPCODE not in (_TEXT, _BINARY):
            return frame
        number, self._messages = self._messages, self._messages + 1
        if not self.is_active or not self._rule.applies(
            number, lambda: _payload(frame, head_size, is_masked=is_masked)
        ):
            return frame
        self.repeated += 1
        return frame + frame


def _frame_sizes(buffer: bytearray) -> tuple[int, int] | None:
    """Bytes of the head, with its mask, and of the payload; None if the head is not whole."""
    if len(buffer) < 2:
        return None
    length, head_size = buffer[1] & _LENGTH, 2
    if length >= 126:
        extra = 2 if length == 126 else 8
        if len(buffer) < 2 + extra:
            return None
        length, head_size = int.from_bytes(buffer[2 : 2 + extra], "big"), 2 + extra
    return head_size + (4 if buffer[1] & _MASKED else 0), length


def _payload(frame: bytes, head_size: int, *, is_masked: bool) -> bytes:
    payload = frame[head_size:]
    if not is_masked or not payload:
        return payload
    mask = frame[head_size - 4 : head_size]
    stretched = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    return mixed.to_bytes(len(payload), "big")
