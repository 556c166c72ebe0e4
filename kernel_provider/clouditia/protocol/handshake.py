"""HELLO and WELCOME: who speaks, which protocol version, and where each stream goes on.

Source: docs/protocol.md, "Frames". A version is picked as the highest that both sides speak.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

from clouditia.errors import RemoteProtocolError, VersionMismatch
from clouditia.protocol import frames
from clouditia.protocol.messages import Buffer

SUBPROTOCOL = "v1.resume.clouditia"
STOCK_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"

#: Lowest and highest link protocol version that this code speaks.
PROTOCOL_VERSIONS = (1, 1)

#: Where a client that has received nothing starts: where the host remembers it, at the oldest
#: unfinished request, or after the newest message.
START_RESUME, START_UNFINISHED, START_LATEST = "resume", "unfinished", "latest"
_STARTS = (START_RESUME, START_UNFINISHED, START_LATEST)

MAX_CLIENT_ID_LENGTH = 200


class Hello(NamedTuple):
    """First frame of a client.

    ``received`` is the last down number that the client has; ``start`` (a word above or a number)
    matters only where that is 0. ``window`` is the credit in bytes that the client gives.
    """

    client_id: str
    kernel_id: Optional[str] = None
    received: int = 0
    epoch: Optional[int] = None
    start: Union[str, int] = START_RESUME
    window: int = 8 * 1024 * 1024
    name: str = ""
    protocol: Tuple[int, int] = PROTOCOL_VERSIONS

    def encode(self) -> bytes:
        """The HELLO frame."""
        return frames.encode_json_frame(frames.HELLO, dict(self._asdict()))


class Welcome(NamedTuple):
    """The host's answer: ``received`` of the client's stream, ``next`` of its own."""

    kernel_id: str
    epoch: int
    received: int
    next: int
    window: int
    state: Dict[str, Any]
    protocol: int = PROTOCOL_VERSIONS[1]

    def encode(self) -> bytes:
        """The WELCOME frame."""
        return frames.encode_json_frame(frames.WELCOME, dict(self._asdict()))


def parse_hello(frame: Buffer) -> Hello:
    """Read a HELLO frame.

    Raises:
        RemoteProtocolError: not a HELLO, or a field is missing or of the wrong type.
    """
    parsed = frames.parse(frame)
    if not isinstance(parsed, frames.JsonFrame) or parsed.kind != frames.HELLO:
        raise RemoteProtocolError("the first frame of a client must be HELLO")
    return hello_from_fields(parsed.fields)


def hello_from_fields(fields: Dict[str, Any]) -> Hello:
    """Check the fields of a HELLO."""
    client_id = _text(fields, "client_id")
    if not 1 <= len(client_id) <= MAX_CLIENT_ID_LENGTH:
        raise RemoteProtocolError("client_id needs 1 to %d characters" % MAX_CLIENT_ID_LENGTH)
    start = fields.get("start", START_RESUME)
    if start not in _STARTS and not _is_count(start):
        raise RemoteProtocolError("start must be one of {} or a number".format(", ".join(_STARTS)))
    versions = fields.get("protocol")
    if not (isinstance(versions, list) and len(versions) == 2 and all(map(_is_count, versions))):
        raise RemoteProtocolError("protocol must be [lowest, highest]")
    kernel_id = fields.get("kernel_id")
    epoch = fields.get("epoch")
    return Hello(
        client_id=client_id,
        kernel_id=kernel_id if isinstance(kernel_id, str) else None,
        received=_count(fields, "received"),
        epoch=epoch if _is_count(epoch) else None,
        start=start,
        window=_count(fields, "window"),
        name=str(fields.get("name") or "")[:200],
        protocol=(versions[0], versions[1]),
    )


def welcome_from_fields(fields: Dict[str, Any]) -> Welcome:
    """Check the fields of a WELCOME."""
    state = fields.get("state")
    return Welcome(
        kernel_id=_text(fields, "kernel_id"),
        epoch=_count(fields, "epoch"),
        received=_count(fields, "received"),
        next=_count(fields, "next"),
        window=_count(fields, "window"),
        state=state if isinstance(state, dict) else {},
        protocol=_count(fields, "protocol"),
    )


def choose_protocol(theirs: Tuple[int, int], ours: Tuple[int, int] = PROTOCOL_VERSIONS) -> int:
    """The highest version that both sides speak.

    Raises:
        VersionMismatch: the ranges do not overlap.
    """
    version = min(theirs[1], ours[1])
    if version < max(theirs[0], ours[0]):
        older = "client" if theirs[1] < ours[0] else "gateway side"
        raise VersionMismatch(
            "the client speaks link protocol %d to %d, the kernel host %d to %d: update the %s."
            % (*theirs, *ours, older)
        )
    return version


def resume_point(
    hello: Hello, *, remembered: Optional[int], first_seq: int, next_seq: int, unfinished: int
) -> Tuple[int, int]:
    """Where a host's stream goes on for ``hello``: (next number, numbers lost before it).

    Args:
        hello: The client's greeting.
        remembered: Last number that this client id acknowledged earlier; ``None`` for a new one.
        first_seq: Oldest number in the journal (after omissions).
        next_seq: Number of the next message.
        unfinished: Number at which the oldest unfinished request began; ``next_seq`` for none.
    """
    if hello.received:
        wanted = hello.received + 1
    elif isinstance(hello.start, int):
        wanted = max(1, hello.start)
    elif hello.start == "latest":
        wanted = next_seq
    elif hello.start == "resume" and remembered is not None:
        wanted = remembered + 1
    else:
        wanted = unfinished
    wanted = min(wanted, next_seq)
    return wanted, max(0, first_seq - wanted)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _count(fields: Dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not _is_count(value):
        raise RemoteProtocolError(f"{name} must be a number from 0 to 2**63 - 1")
    return int(value)  # type: ignore[arg-type]  # checked by _is_count


def _text(fields: Dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{name} must be a string")
    return value
