"""The two websocket forms of stock Jupyter clients: v1 frames, and the older JSON form.

Both are read into a checked request and written from the v1 frame that the kernel host sent.
Source: Jupyter "websocket kernel wire protocols".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.handshake import STOCK_SUBPROTOCOL
from clouditia.protocol.messages import (
    CONTROL,
    SHELL,
    STDIN,
    Buffer,
    Message,
    decode_json,
    decode_legacy,
    decode_v1,
    encode_legacy,
    encode_v1,
)
from clouditia_gateway.channels import close_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLIENT_CHANNELS = (SHELL, CONTROL, STDIN)


class Refused(RemoteProtocolError):
    """A message that ends its connection, with the websocket close code to say so."""

    def __init__(
        self, message: str = "", *, close_code: int = close_codes.POLICY_VIOLATION
    ) -> None:
        super().__init__(message)
        self.close_code = close_code


@dataclass(frozen=True)
class Request:
    """A message of a client: the v1 frame to pass on, and by whom it was sent."""

    parts: Sequence[Buffer]
    session: str
    msg_id: str


class StockForm(Protocol):
    """How messages look on one kind of stock websocket."""

    def read(self, message: str | bytes) -> Request:
        """Check a message of the client. Raises :class:`Refused`."""
        ...

    def write(self, frame: Buffer) -> tuple[Sequence[Buffer], bool]:
        """A v1 frame of the host as (parts, whether it is text)."""
        ...


class V1Form:
    """``v1.kernel.websocket.jupyter.org``: the host's frame as it is."""

    def read(self, message: str | bytes) -> Request:
        """Check a message of the client."""
        if isinstance(message, str):
            raise Refused(
                f"{STOCK_SUBPROTOCOL} messages are binary, a text message came",
                close_code=close_codes.UNSUPPORTED_DATA,
            )
        try:
            decoded = decode_v1(message)
        except RemoteProtocolError as error:
            raise Refused(error.message) from None
        return _checked(decoded, [message])

    def write(self, frame: Buffer) -> tuple[Sequence[Buffer], bool]:
        """The frame itself."""
        return [frame], False


class LegacyForm:
    """No subprotocol: JSON text, or binary where there are buffers."""

    def read(self, message: str | bytes) -> Request:
        """Check a message of the client and put it into a v1 frame."""
        try:
            decoded = decode_legacy(message)
        except RemoteProtocolError as error:
            raise Refused(error.message) from None
        return _checked(decoded, encode_v1(decoded))

    def write(self, frame: Buffer) -> tuple[Sequence[Buffer], bool]:
        """JSON text, or binary where there are buffers."""
        form = encode_legacy(decode_v1(frame))
        return (
            ([form.encode("utf-8", "replace")], True) if isinstance(form, str) else ([form], False)
        )


def _checked(message: Message, parts: Sequence[Buffer]) -> Request:
    if message.channel not in _CLIENT_CHANNELS:
        raise Refused(
            f"clients may send on {', '.join(_CLIENT_CHANNELS)}, not on {message.channel!r}"
        )
    try:
        header = decode_json(message.header)
        for part in (message.parent_header, message.metadata, message.content):
            decode_json(part)
    except RemoteProtocolError as error:
        raise Refused(error.message) from None
    msg_id, session = header.get("msg_id"), header.get("session", "")
    if not (isinstance(msg_id, str) and msg_id and isinstance(session, str)):
        raise Refused("a message header needs msg_id and session as strings")
    return Request(parts, session, msg_id)
