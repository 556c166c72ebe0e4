"""What :class:`~clouditia.protocol.stock_kernel.StockKernel` wants done, and what it remembers."""

from __future__ import annotations

from typing import FrozenSet, NamedTuple, Optional, Tuple, Union

from clouditia.protocol.answers import Cause, Unanswered
from clouditia.protocol.messages import Message


class Send(NamedTuple):
    """Send this message to the server."""

    message: Message


class Deliver(NamedTuple):
    """Hand this message to the front end (on ``clouditia``: to the bridge itself)."""

    message: Message


class Call(NamedTuple):
    """Call the server's REST interface, then say how it went: :meth:`StockKernel.call_done`."""

    number: int
    verb: str


class StartOver(NamedTuple):
    """Connect again as a new client: what the server keeps for the old one is of a dead process."""


Action = Union[Send, Deliver, Call, StartOver]

#: Requests are answered in order within a lane: (channel, subshell).
Lane = Tuple[str, Optional[str]]


class Request:
    """A request that was sent and is not done."""

    def __init__(self, message: Message, msg_type: str, lane: Lane) -> None:
        self.message = message
        self.msg_type = msg_type
        self.lane = lane
        self.replied = False
        self.idle_seen = False

    @property
    def unanswered(self) -> Unanswered:
        """How much of its answer was seen."""
        header = bytes(self.message.header)
        channel = self.message.channel
        return Unanswered(channel, self.msg_type, header, self.replied, self.idle_seen)


class Probe:
    """A question of our own, and the requests that are lost if they lack an answer by its end.

    Without a cause it only asks whether the kernel is there.
    """

    def __init__(self, msg_ids: FrozenSet[str], cause: Optional[Cause]) -> None:
        self.msg_ids = msg_ids
        self.cause = cause
        self.replied = False
        self.idle_seen = False


class Order(NamedTuple):
    """A call under way and the message that asked for it."""

    verb: str
    message: Message
