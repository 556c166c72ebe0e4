"""Frames of the link protocol: bytes to values and back.

Source: docs/protocol.md, "Frames". Lengths and counts are checked before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Union

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.messages import Buffer, encode_json

HELLO, WELCOME, DATA, ACK, GAP, PING, PONG, CLOSE, BUNDLE = range(1, 10)

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024

_DATA = struct.Struct(">BBHIIQQ")
_ACK = struct.Struct(">BQQ")
_GAP = struct.Struct(">BQQ")
_PING = struct.Struct(">BQ")
_LENGTH = struct.Struct(">I")

#: Frames up to this size travel together; larger ones gain nothing by it.
MAX_BUNDLED_BYTES = 16 * 1024

DATA_HEADER_BYTES = _DATA.size


class Data(NamedTuple):
    """One piece of message ``seq``: bytes ``[offset, offset + len(payload))`` of ``total``."""

    seq: int
    ack: int
    total: int
    offset: int
    payload: memoryview


class Ack(NamedTuple):
    """Everything up to ``ack`` is safe; ``credit`` message bytes may be sent in all."""

    ack: int
    credit: int


class Gap(NamedTuple):
    """Messages ``first`` to ``last`` are gone for good."""

    first: int
    last: int
    info: Dict[str, Any]


class Ping(NamedTuple):
    """Answer with a :class:`Pong` of the same token."""

    token: int


class Pong(NamedTuple):
    """Answer to a ping."""

    token: int


class JsonFrame(NamedTuple):
    """HELLO, WELCOME or CLOSE with its fields."""

    kind: int
    fields: Dict[str, Any]


Frame = Union[Data, Ack, Gap, Ping, Pong, JsonFrame]


def encode_data(
    seq: int, ack: int, total: int, offset: int, parts: Sequence[Buffer]
) -> List[Buffer]:
    """A DATA frame around ``parts``, as parts."""
    return [_DATA.pack(DATA, 0, 0, total, offset, seq, ack), *parts]


def encode_ack(ack: int, credit: int) -> bytes:
    """An ACK frame."""
    return _ACK.pack(ACK, ack, credit)


def encode_gap(first: int, last: int, info: Dict[str, Any]) -> bytes:
    """A GAP frame."""
    return _GAP.pack(GAP, first, last) + encode_json(info)


def encode_ping(token: int) -> bytes:
    """A PING frame."""
    return _PING.pack(PING, token)


def encode_pong(token: int) -> bytes:
    """A PONG frame."""
    return _PING.pack(PONG, token)


def encode_json_frame(kind: int, fields: Dict[str, Any]) -> bytes:
    """A HELLO, WELCOME or CLOSE frame."""
    return bytes([kind]) + encode_json(fields)


def bundle(frames: Sequence[List[Buffer]]) -> List[List[Buffer]]:
    """Put small frames that go out together into one websocket message each run of them."""
    out: List[List[Buffer]] = []
    run: List[List[Buffer]] = []
    run_size = 0
    for frame in frames:
        size = sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in frame)
        if size > MAX_BUNDLED_BYTES or run_size + size > 4 * MAX_BUNDLED_BYTES:
            out.extend(_join_run(run))
            run, run_size = [], 0
        if size > MAX_BUNDLED_BYTES:
            out.append(frame)
        else:
            run.append([_LENGTH.pack(size), *frame])
            run_size += size
    out.extend(_join_run(run))
    return out


def _join_run(run: List[List[Buffer]]) -> List[List[Buffer]]:
    if len(run) < 2:
        return [frame[1:] for frame in run]
    return [[bytes([BUNDLE]), *(part for frame in run for part in frame)]]


def unbundle(message: Buffer) -> Iterator[Buffer]:
    """The frames of one websocket message: itself, or what a bundle holds.

    Raises:
        RemoteProtocolError: a length of a bundle does not fit; the frames before it were yielded.
    """
    view = memoryview(message)
    if not view.nbytes or view[0] != BUNDLE:
        yield view
        return
    position = 1
    while position < view.nbytes:
        start = position + _LENGTH.size
        if start > view.nbytes:
            raise RemoteProtocolError("a bundle ends inside a length")
        end = start + _LENGTH.unpack_from(view, position)[0]
        if end > view.nbytes:
            raise RemoteProtocolError(
                "a bundle of %d bytes cannot hold a frame that ends at %d" % (view.nbytes, end)
            )
        yield view[start:end]
        position = end


def parse(frame: Buffer) -> Frame:
    """Read one frame.

    Raises:
        RemoteProtocolError: unknown kind, wrong length, or JSON that is not an object.
    """
    view = memoryview(frame)
    size = view.nbytes
    if not 1 <= size <= MAX_FRAME_BYTES:
        raise RemoteProtocolError(
            "a frame has 1 to %d bytes, this one has %d" % (MAX_FRAME_BYTES, size)
        )
    kind = view[0]
    if kind == DATA:
        return _parse_data(view, size)
    if kind in (ACK, PING, PONG):
        return _parse_fixed(kind, view, size)
    if kind == GAP:
        if size < _GAP.size:
            raise RemoteProtocolError("a GAP frame of %d bytes is too short" % size)
        _, first, last = _GAP.unpack_from(view)
        return Gap(first, last, _parse_json(view[_GAP.size :]))
    if kind in (HELLO, WELCOME, CLOSE):
        return JsonFrame(kind, _parse_json(view[1:]))
    raise RemoteProtocolError("unknown frame kind %d" % kind)


def _parse_data(view: memoryview, size: int) -> Data:
    if size <= _DATA.size:
        raise RemoteProtocolError("a DATA frame of %d bytes holds no data" % size)
    _, _, _, total, offset, seq, ack = _DATA.unpack_from(view)
    payload = view[_DATA.size :]
    if offset + payload.nbytes > total:
        raise RemoteProtocolError(
            "a piece at %d of %d bytes does not fit a message of %d"
            % (offset, payload.nbytes, total)
        )
    return Data(seq, ack, total, offset, payload)


def _parse_fixed(kind: int, view: memoryview, size: int) -> Frame:
    expected = _ACK.size if kind == ACK else _PING.size
    if size != expected:
        raise RemoteProtocolError("frame kind %d has %d bytes, got %d" % (kind, expected, size))
    if kind == ACK:
        _, ack, credit = _ACK.unpack_from(view)
        return Ack(ack, credit)
    _, token = _PING.unpack_from(view)
    return Ping(token) if kind == PING else Pong(token)


def _parse_json(view: memoryview) -> Dict[str, Any]:
    if view.nbytes > MAX_JSON_BYTES:
        raise RemoteProtocolError(
            "the JSON of a frame has at most %d bytes, this one has %d"
            % (MAX_JSON_BYTES, view.nbytes)
        )
    try:
        fields = json.loads(bytes(view))
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(f"the JSON of a frame is not valid: {exc}") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("the JSON of a frame must be an object")
    return fields
