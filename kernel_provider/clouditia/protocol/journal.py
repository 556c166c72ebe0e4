"""The journal's records and their form on disk; the kernel host does the file I/O.

A journal is a row of segment files; a segment is a row of frames; a frame is one record:

=============  ====  =====================================================================
field          type  meaning (big-endian, 40 bytes, then the payload)
=============  ====  =====================================================================
magic          2s    ``CJ``
version        u8    1; later versions keep this header and its checksum
kind           u8    what the record is, :class:`Kind`; readers pass over kinds they do not know
tag            u8    what a kernel's message is good for, :class:`Tag`; decides what goes first
reserved       3     zero
epoch          u32   of the kernel
seq            u64   DOWN and OMITTED: the (first) number; others: the next number at that time
time_ns        u64   when it was written; one clock that does not jump (see journal_retention)
length         u32   bytes of payload
payload_crc    u32   crc32 of the payload
header_crc     u32   crc32 of the 36 bytes above
=============  ====  =====================================================================

The header has its own checksum, so a length is believed only when it is what was written: a frame
that runs past the end of its segment is a torn write, everything else that fails is damage.

Source: docs/protocol.md, "Streams": the journal numbers what the kernel says.
"""

from __future__ import annotations

import json
import struct
import zlib
from enum import IntEnum
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from clouditia.errors import (
    LocalProtocolError,
    PackageTooLarge,
    RemoteProtocolError,
    VersionMismatch,
)
from clouditia.protocol.messages import (
    CLOUDITIA,
    CONTROL,
    IOPUB,
    MAX_BUFFERS,
    MAX_MESSAGE_BYTES,
    SHELL,
    Buffer,
    Message,
    decode_json,
    decode_v1,
    encode_json,
    encode_v1,
)

VERSION = 1
MAGIC = b"CJ"
_HEADER = struct.Struct(">2sBBB3xIQQII")
_CRC = struct.Struct(">I")
_OMITTED = struct.Struct(">QQQB")
HEADER_BYTES = _HEADER.size + _CRC.size
#: A message of the largest size with its v1 offsets still fits.
MAX_RECORD_BYTES = MAX_MESSAGE_BYTES + 8 * (MAX_BUFFERS + 16)
#: Numbers left out after damage at the end of the journal: clients may have seen numbers that the
#: disk never got, and a number must not be given twice.
RECOVERY_SKIP = 1 << 20


class Kind(IntEnum):
    """What a record is."""

    DOWN = 1  # a message from the kernel (or a notice of the host): one v1 frame
    UP = 2  # a request, recorded before it reaches the kernel: who, which, not its content
    EPOCH = 3  # a kernel process begins
    EXIT = 4  # a kernel process has ended
    OMITTED = 5  # a range of numbers whose messages are gone


class Tag(IntEnum):
    """What a message is good for, so that nobody decodes it again to find out."""

    OTHER = 0
    STREAM = 1
    DISPLAY = 2
    REPLY = 3
    IDLE = 4
    ERROR = 5
    NOTICE = 6
    REQUEST = 7  # of UP records: a request that has a reply; one without is OTHER


class OmissionReason(IntEnum):
    """Why messages are gone."""

    RETENTION = 1
    DAMAGED = 2


class Record(NamedTuple):
    """One record; ``payload`` is a list of parts that are written one after the other.

    ``kind`` and ``tag`` are plain numbers, because a newer host may have written others.
    """

    kind: int
    seq: int
    epoch: int
    time_ns: int
    payload: Tuple[Buffer, ...] = ()
    tag: int = Tag.OTHER


class UpRequest(NamedTuple):
    """What an UP record holds about a request."""

    client_id: str
    up_seq: int
    msg_id: str
    msg_type: str
    channel: str


class Omission(NamedTuple):
    """The messages ``first`` to ``last`` (inclusive) are gone.

    ``messages`` and ``size_bytes`` say how much that was; 0 messages means that nobody knows.
    """

    first: int
    last: int
    messages: int
    size_bytes: int
    reason: OmissionReason


class Frame(NamedTuple):
    """A record found in a segment, at ``offset``, ``length`` bytes long with its header."""

    record: Record
    offset: int
    length: int


class Corruption(NamedTuple):
    """Where the last good frame ends and what was found there."""

    offset: int
    reason: str


# --- records ------------------------------------------------------------------------------------


def down_record(message: Message, *, seq: int, epoch: int, time_ns: int) -> Record:
    """The record of a message from the kernel."""
    return Record(Kind.DOWN, seq, epoch, time_ns, tuple(encode_v1(message)), tag_of(message))


def up_record(request: UpRequest, *, next_seq: int, epoch: int, time_ns: int) -> Record:
    """The record of a request that is about to reach the kernel."""
    # Pure ASCII, so that any id, even one that is not valid Unicode, is read back as it was.
    payload = json.dumps(request._asdict(), separators=(",", ":")).encode("ascii")
    tag = Tag.REQUEST if expects_reply(request.channel, request.msg_type) else Tag.OTHER
    return Record(Kind.UP, next_seq, epoch, time_ns, (payload,), tag)


def epoch_record(*, next_seq: int, epoch: int, time_ns: int) -> Record:
    """The record that a kernel process begins; ``epoch`` is its number."""
    return Record(Kind.EPOCH, next_seq, epoch, time_ns)


def exit_record(facts: Dict[str, Any], *, next_seq: int, epoch: int, time_ns: int) -> Record:
    """The record that the kernel process of ``epoch`` ended; ``facts`` as in `kernel_exited`."""
    return Record(Kind.EXIT, next_seq, epoch, time_ns, (encode_json(facts),))


def omitted_record(omission: Omission, *, epoch: int, time_ns: int) -> Record:
    """The record that stands for messages that are gone."""
    payload = _OMITTED.pack(omission.last, omission.messages, omission.size_bytes, omission.reason)
    return Record(Kind.OMITTED, omission.first, epoch, time_ns, (payload,))


def recovery_record(*, next_seq: int, epoch: int, time_ns: int) -> Record:
    """What to write first after the end of a journal was found torn or damaged.

    It leaves out :data:`RECOVERY_SKIP` numbers, so that no number that a client may have seen
    before the crash is given to another message.
    """
    last = next_seq + RECOVERY_SKIP - 1
    omission = Omission(next_seq, last, 0, 0, OmissionReason.DAMAGED)
    return omitted_record(omission, epoch=epoch, time_ns=time_ns)


def expects_reply(channel: str, msg_type: str) -> bool:
    """Whether the protocol has a reply to such a message.

    Comm messages, input replies and commands to the host have none and are never pending.
    """
    return channel in (SHELL, CONTROL) and msg_type.endswith("_request")


def message_of(record: Record) -> Message:
    """The Jupyter message of a DOWN record, freshly made or read from a segment."""
    if len(record.payload) == 1:
        return decode_v1(record.payload[0])
    channel, header, parent_header, metadata, content = record.payload[1:6]
    name = bytes(channel).decode("ascii")
    return Message(name, header, parent_header, metadata, content, record.payload[6:])


def parent_id_of(record: Record) -> str:
    """``msg_id`` of the request that a DOWN record answers, or ``""``."""
    try:
        return str(decode_json(message_of(record).parent_header).get("msg_id") or "")
    except RemoteProtocolError:
        return ""  # a kernel may write nonsense; it then belongs to no request


def request_of(record: Record) -> UpRequest:
    """What an UP record holds.

    Raises:
        RemoteProtocolError: the payload is not what :func:`up_record` writes.
    """
    fields = decode_json(record.payload[0])
    try:
        texts = [fields[name] for name in ("client_id", "msg_id", "msg_type", "channel")]
        up_seq = fields["up_seq"]
    except KeyError as exc:
        raise RemoteProtocolError("an UP record has no %s" % exc) from None
    if not all(isinstance(text, str) for text in texts) or not isinstance(up_seq, int):
        raise RemoteProtocolError("an UP record has a field of a wrong type")
    client_id, msg_id, msg_type, channel = texts
    return UpRequest(client_id, up_seq, msg_id, msg_type, channel)


def exit_facts_of(record: Record) -> Dict[str, Any]:
    """What an EXIT record holds: exit code, signal, reason, last lines of stderr."""
    return decode_json(record.payload[0])


def omission_of(record: Record) -> Omission:
    """The range that an OMITTED record stands for.

    Raises:
        RemoteProtocolError: the payload is not what :func:`omitted_record` writes.
    """
    try:
        last, messages, size_bytes, reason = _OMITTED.unpack(bytes(record.payload[0]))
        return Omission(record.seq, last, messages, size_bytes, OmissionReason(reason))
    except (struct.error, ValueError) as exc:
        raise RemoteProtocolError("an OMITTED record is malformed: %s" % exc) from None


_IOPUB_TAGS = {
    "stream": Tag.STREAM,
    "display_data": Tag.DISPLAY,
    "update_display_data": Tag.DISPLAY,
    "execute_result": Tag.DISPLAY,
    "error": Tag.ERROR,
}


def tag_of(message: Message) -> Tag:
    """What a message from the kernel is good for; nonsense is :attr:`Tag.OTHER`."""
    if message.channel in (SHELL, CONTROL):
        return Tag.REPLY
    if message.channel == CLOUDITIA:
        return Tag.NOTICE
    if message.channel != IOPUB:
        return Tag.OTHER
    try:
        msg_type = decode_json(message.header).get("msg_type")
        if msg_type == "status":
            is_idle = decode_json(message.content).get("execution_state") == "idle"
            return Tag.IDLE if is_idle else Tag.OTHER
    except RemoteProtocolError:
        return Tag.OTHER
    return _IOPUB_TAGS.get(str(msg_type), Tag.OTHER)


# --- frames -------------------------------------------------------------------------------------


def encode_record(record: Record) -> List[Buffer]:
    """The frame of a record as parts to write one after the other; nothing is copied.

    Raises:
        PackageTooLarge: the payload is larger than :data:`MAX_RECORD_BYTES`.
    """
    length = 0
    payload_crc = 0
    for part in record.payload:
        length += part.nbytes if isinstance(part, memoryview) else len(part)
        payload_crc = zlib.crc32(part, payload_crc)
    if length > MAX_RECORD_BYTES:
        raise PackageTooLarge(
            "a journal record holds at most %d bytes, this one has %d" % (MAX_RECORD_BYTES, length)
        )
    head = _HEADER.pack(
        MAGIC,
        VERSION,
        record.kind,
        record.tag,
        record.epoch,
        record.seq,
        record.time_ns,
        length,
        payload_crc,
    )
    return [head + _CRC.pack(zlib.crc32(head)), *record.payload]


def frame_bytes(parts: Sequence[Buffer]) -> int:
    """Bytes of an encoded frame."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


class RecordReader:
    """Iterates over the frames of one segment and stops at the first that is torn or damaged.

    Payloads are views into ``buffer`` (for a file: ``memoryview(mmap)``). Iterating again starts
    at the first frame again.

    Attributes:
        end: Where the last good frame ends; what to cut the segment to.
        corruption: What stopped the reader, or None when it came to the end of the segment.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._view = memoryview(buffer)
        self.end = 0
        self.corruption: Optional[Corruption] = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the good frames.

        Raises:
            VersionMismatch: a newer version wrote this journal.
        """
        self.end = 0
        self.corruption = None
        size = self._view.nbytes
        while self.end < size:
            try:
                frame = read_frame(self._view, self.end)
            except RemoteProtocolError as exc:
                self.corruption = Corruption(self.end, exc.message)
                return
            self.end += frame.length
            yield frame


def read_frame(buffer: Buffer, offset: int = 0) -> Frame:
    """Check and read the frame at ``offset``; its payload is a view into ``buffer``.

    Raises:
        RemoteProtocolError: it is torn (runs past the end) or damaged.
        VersionMismatch: a newer version wrote it.
        LocalProtocolError: ``offset`` lies outside of ``buffer``.
    """
    view = memoryview(buffer)
    available = view.nbytes - offset
    if offset < 0 or available <= 0:
        raise LocalProtocolError(
            "a frame at offset %d was asked for, the segment has %d bytes" % (offset, view.nbytes)
        )
    if available < HEADER_BYTES:
        raise RemoteProtocolError(
            "torn: a frame header has %d bytes, only %d are left" % (HEADER_BYTES, available)
        )
    head = view[offset : offset + _HEADER.size]
    magic, version, kind, tag, epoch, seq, time_ns, length, payload_crc = _HEADER.unpack(head)
    if magic != MAGIC:
        raise RemoteProtocolError("damaged: no frame starts here")
    if zlib.crc32(head) != _CRC.unpack_from(view, offset + _HEADER.size)[0]:
        raise RemoteProtocolError("damaged: the checksum of the frame header does not match")
    if version > VERSION:
        raise VersionMismatch(
            "this journal is of format %d, this program reads up to %d" % (version, VERSION),
            hint="Start the kernel host with the newer Clouditia that wrote it.",
        )
    if length > available - HEADER_BYTES:
        raise RemoteProtocolError(
            "torn: the payload has %d bytes, only %d are left" % (length, available - HEADER_BYTES)
        )
    start = offset + HEADER_BYTES
    payload = view[start : start + length]
    if zlib.crc32(payload) != payload_crc:
        raise RemoteProtocolError("damaged: the checksum of the payload does not match")
    record = Record(kind, seq, epoch, time_ns, (payload,), tag)
    return Frame(record, offset, HEADER_BYTES + length)
