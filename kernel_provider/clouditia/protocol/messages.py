"""Jupyter messages as bytes: the websocket v1 framing, the legacy framings, and signed ZMQ parts.

A message here is five JSON byte strings and its binary buffers; the JSON of a message passing
through is never decoded and encoded again, so what the kernel wrote is what the front end reads.

Sources: Jupyter "messaging" (the wire protocol) and "websocket kernel wire protocols" documents.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from clouditia.errors import PackageTooLarge, RemoteProtocolError

Buffer = Union[bytes, bytearray, memoryview]

DELIMITER = b"<IDS|MSG>"
SHELL, CONTROL, STDIN, IOPUB = "shell", "control", "stdin", "iopub"
#: Notices of the kernel host and commands to it; see docs/protocol.md, "The clouditia channel".
CLOUDITIA = "clouditia"
CHANNELS = frozenset((SHELL, CONTROL, STDIN, IOPUB, CLOUDITIA))

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
MAX_JSON_PART_BYTES = MAX_MESSAGE_BYTES
MAX_BUFFERS = 4096

_U64 = struct.Struct("<Q")
_JSON = json.JSONDecoder()  # json.loads would guess the encoding of each part anew


class Message(NamedTuple):
    """One Jupyter message on one channel, its four dictionaries still encoded as JSON."""

    channel: str
    header: Buffer
    parent_header: Buffer
    metadata: Buffer
    content: Buffer
    buffers: Tuple[Buffer, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        json_size = len(self.header) + len(self.parent_header) + len(self.metadata)
        return json_size + len(self.content) + sum(_nbytes(part) for part in self.buffers)


def _nbytes(part: Buffer) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def encode_json(value: object) -> bytes:
    """Compact UTF-8 JSON, as Jupyter signs and sends it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode_json(part: Buffer) -> Dict[str, Any]:
    """Decode one JSON object; anything else is a :class:`RemoteProtocolError`."""
    try:
        value = _JSON.decode(str(part, "utf-8"))
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(f"a message part is not valid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"a message part is not a JSON object but {type(value).__name__}")
    return value


# --- websocket v1 -------------------------------------------------------------------------------


def encode_v1(message: Message) -> List[Buffer]:
    """The v1 frame of a message as a list of parts, ready to be joined or sent as fragments.

    Layout (little-endian): number of offsets ``n``, then ``n`` offsets, then channel, header,
    parent header, metadata, content and buffers; the last offset is the length of the frame.
    """
    parts: List[Buffer] = [
        message.channel.encode("ascii"),
        message.header,
        message.parent_header,
        message.metadata,
        message.content,
    ]
    parts.extend(message.buffers)
    count = len(parts) + 1
    position = 8 * (1 + count)
    offsets = [position]
    for part in parts:
        position += _nbytes(part)
        offsets.append(position)
    head = struct.pack("<%dQ" % (count + 1), count, *offsets)
    return [head, *parts]


def message_of_v1_parts(parts: Sequence[Buffer]) -> Message:
    """The message whose :func:`encode_v1` gave ``parts``, without copying anything."""
    _, channel, header, parent, metadata, content = parts[:6]
    return Message(
        _channel_name(bytes(channel)), header, parent, metadata, content, tuple(parts[6:])
    )


def decode_v1(frame: Buffer) -> Message:
    """Split a v1 frame; parts are views into ``frame``.

    Raises:
        RemoteProtocolError: counts, offsets or the channel name are not possible for this frame.
            Every count is checked against the frame's length before anything is allocated.
    """
    view = memoryview(frame)
    size = view.nbytes
    if size < 8:
        raise RemoteProtocolError("a v1 frame needs at least 8 bytes, this one has %d" % size)
    (count,) = _U64.unpack_from(view, 0)
    if not 6 <= count <= MAX_BUFFERS + 6 or 8 * (count + 1) > size:
        raise RemoteProtocolError(
            "a v1 frame of %d bytes cannot hold %d offsets (6 to %d are allowed)"
            % (size, count, MAX_BUFFERS + 6)
        )
    offsets = struct.unpack_from("<%dQ" % count, view, 8)
    if offsets[0] != 8 * (count + 1) or offsets[-1] != size:
        raise RemoteProtocolError(
            "v1 offsets must start at %d and end at %d, these go from %d to %d"
            % (8 * (count + 1), size, offsets[0], offsets[-1])
        )
    if any(a > b for a, b in zip(offsets, offsets[1:])):
        raise RemoteProtocolError("v1 offsets must not decrease")
    parts = [view[a:b] for a, b in zip(offsets, offsets[1:])]
    channel, header, parent, metadata, content = parts[:5]
    return Message(
        _channel_name(bytes(channel)), header, parent, metadata, content, tuple(parts[5:])
    )


def _channel_name(raw: bytes) -> str:
    name = raw[:32].decode("ascii", "replace")
    if name not in CHANNELS:
        raise RemoteProtocolError(f"unknown channel {name!r}")
    return name


def peek_channel(frame: Buffer) -> str:
    """Channel name of a well-formed v1 frame, without splitting the rest."""
    view = memoryview(frame)
    count, first, second = struct.unpack_from("<3Q", view) if view.nbytes >= 24 else (0, 0, 0)
    if 8 * (count + 1) != first or not first <= second <= view.nbytes:
        raise RemoteProtocolError(
            "v1 offsets are not possible for a frame of %d bytes" % view.nbytes
        )
    return _channel_name(bytes(view[first:second]))


# --- legacy websocket forms ---------------------------------------------------------------------


def encode_legacy(message: Message) -> Union[str, bytes]:
    """The form that clients without a subprotocol expect: JSON text, or binary with buffers."""
    fields: Dict[str, Any] = {
        "header": decode_json(message.header),
        "parent_header": decode_json(message.parent_header),
        "metadata": decode_json(message.metadata),
        "content": decode_json(message.content),
        "channel": message.channel,
    }
    fields["msg_id"] = fields["header"].get("msg_id")
    fields["msg_type"] = fields["header"].get("msg_type")
    if not message.buffers:
        fields["buffers"] = []
        return json.dumps(fields, ensure_ascii=False)
    parts: List[Buffer] = [encode_json(fields), *message.buffers]
    count = len(parts)
    position = 4 * (count + 1)
    offsets = []
    for part in parts:
        offsets.append(position)
        position += _nbytes(part)
    if position >= 2**32:
        raise PackageTooLarge("the legacy form holds at most 4 GiB, this message has %d" % position)
    return b"".join([struct.pack("!%dI" % (count + 1), count, *offsets), *parts])


def decode_legacy(frame: Union[str, Buffer]) -> Message:
    """Read a legacy text or binary frame.

    Raises:
        RemoteProtocolError: not JSON, impossible counts or offsets, or no known channel.
    """
    buffers: Tuple[Buffer, ...] = ()
    if isinstance(frame, str):
        fields = decode_json(frame.encode("utf-8"))
    else:
        parts = _split_legacy(memoryview(frame))
        fields = decode_json(parts[0])
        buffers = tuple(parts[1:])
    for name in ("header", "parent_header", "metadata", "content"):
        if not isinstance(fields.get(name, {}), dict):
            raise RemoteProtocolError(f"{name!r} of a message must be a JSON object")
    channel = fields.get("channel") or SHELL
    return Message(
        _channel_name(str(channel).encode("ascii", "replace")),
        encode_json(fields.get("header", {})),
        encode_json(fields.get("parent_header", {})),
        encode_json(fields.get("metadata", {})),
        encode_json(fields.get("content", {})),
        buffers,
    )


def _split_legacy(view: memoryview) -> List[memoryview]:
    size = view.nbytes
    if size < 8:
        raise RemoteProtocolError("a legacy frame needs at least 8 bytes, this one has %d" % size)
    (count,) = struct.unpack_from("!I", view, 0)
    if not 1 <= count <= MAX_BUFFERS + 1 or 4 * (count + 1) > size:
        raise RemoteProtocolError("a legacy frame of %d bytes cannot hold %d parts" % (size, count))
    offsets = [*struct.unpack_from("!%dI" % count, view, 4), size]
    if offsets[0] != 4 * (count + 1) or any(a > b for a, b in zip(offsets, offsets[1:])):
        raise RemoteProtocolError("legacy offsets must start after the table and not decrease")
    return [view[a:b] for a, b in zip(offsets, offsets[1:])]


# --- ZMQ multipart ------------------------------------------------------------------------------


class Signer:
    """Signs and checks the four JSON parts of ZMQ messages (HMAC; buffers are not signed).

    An empty key turns signing off, as in Jupyter connection files.
    """

    def __init__(self, key: bytes, scheme: str = "hmac-sha256") -> None:
        if not scheme.startswith("hmac-"):
            raise RemoteProtocolError(f"unknown signature scheme {scheme!r}")
        self._key, self._digest = key, scheme[5:]
        hashlib.new(self._digest)  # an unknown one is better known now

    def sign(self, parts: Sequence[Buffer]) -> bytes:
        """Hex digest over ``parts``, or ``b""`` when signing is off."""
        if not self._key:
            return b""
        # One call into C: an HMAC object per message costs six times as much.
        return hmac.digest(self._key, b"".join(parts), self._digest).hex().encode("ascii")

    def encode(self, message: Message, idents: Sequence[bytes] = ()) -> List[Buffer]:
        """ZMQ parts of ``message``: identities, delimiter, signature, JSON parts, buffers."""
        body = message[1:5]
        return [*idents, DELIMITER, self.sign(body), *body, *message.buffers]

    def decode(
        self, channel: str, parts: Sequence[Buffer], *, verify: bool = True
    ) -> Tuple[List[bytes], Message]:
        """Split received ZMQ parts into (identities, message).

        Raises:
            RemoteProtocolError: the delimiter is missing, parts are missing, or the signature
                does not match.
        """
        cut = _delimiter_index(parts)
        if cut is None or len(parts) < cut + 6:
            raise RemoteProtocolError(
                "a ZMQ message needs the delimiter and 5 parts after it, got %d parts" % len(parts)
            )
        body = parts[cut + 2 : cut + 6]
        if verify and self._key:
            expected = self.sign(body)
            if not hmac.compare_digest(expected, bytes(parts[cut + 1])):
                raise RemoteProtocolError("a ZMQ message has a wrong signature")
        idents = [bytes(part) for part in parts[:cut]]
        header, parent, metadata, content = body
        buffers = tuple(parts[cut + 6 :])
        return idents, Message(channel, header, parent, metadata, content, buffers)


def _delimiter_index(parts: Sequence[Buffer]) -> Optional[int]:
    for index, part in enumerate(parts[:16]):
        if len(part) == len(DELIMITER) and bytes(part) == DELIMITER:
            return index
    return None
