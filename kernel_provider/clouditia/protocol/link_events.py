"""What a link is told, what it tells, and its limits: the vocabulary of :mod:`.link`."""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, NamedTuple, Union

from clouditia.errors import ClouditiaError
from clouditia.protocol.handshake import Hello, Welcome
from clouditia.protocol.messages import MAX_MESSAGE_BYTES, Buffer


class Role(Enum):
    """Which side of the link this is."""

    CLIENT = "client"
    HOST = "host"


class LinkState(Enum):
    """Where a link stands; only ONLINE moves messages."""

    OFFLINE = "offline"
    RESUMING = "resuming"
    ONLINE = "online"
    CLOSED = "closed"


class LinkConfig(NamedTuple):
    """Limits of one side, in bytes and seconds."""

    window_bytes: int = 8 * 1024 * 1024
    max_fragment_bytes: int = 1024 * 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
    ping_after_s: float = 10.0
    give_up_after_s: float = 20.0
    handshake_timeout_s: float = 60.0
    ack_delay_s: float = 0.2


DEFAULT_CONFIG = LinkConfig()

#: Code of the CLOSE with which a client leaves for good: the host may forget its ``client_id``.
GOODBYE = "goodbye"


class HelloReceived(NamedTuple):
    """Host: a client said hello; answer with :meth:`Link.accept` or :meth:`Link.close`."""

    hello: Hello


class Online(NamedTuple):
    """The handshake is done; messages flow."""

    welcome: Welcome


class Delivered(NamedTuple):
    """Message ``seq`` is whole; call ``handled(seq)`` when done with it."""

    seq: int
    frame: Buffer


class GapSeen(NamedTuple):
    """Messages ``first`` to ``last`` can never be had; call ``handled(last)`` when done."""

    first: int
    last: int
    info: Dict[str, Any]


class PeerAcked(NamedTuple):
    """The peer has every message up to ``ack``."""

    ack: int


class Failed(NamedTuple):
    """This connection is of no more use: close it after sending what is left."""

    error: ClouditiaError


class ClosedByPeer(NamedTuple):
    """The peer said CLOSE with this error, or that it leaves for good."""

    error: ClouditiaError
    is_goodbye: bool = False


Event = Union[HelloReceived, Online, Delivered, GapSeen, PeerAcked, Failed, ClosedByPeer]
