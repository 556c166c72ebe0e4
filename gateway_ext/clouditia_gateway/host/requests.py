"""Which requests are in the kernel's hands, and what to say to them when it cannot answer.

What is finished and what is known twice is decided by the journal's index; here are the headers
that answers refer to, and the answers that the host writes itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from clouditia.errors import RemoteProtocolError
from clouditia.protocol import answers
from clouditia.protocol.answers import Cause, Unanswered
from clouditia.protocol.journal import UpRequest, expects_reply
from clouditia.protocol.journal_requests import RequestState
from clouditia.protocol.messages import Message, decode_json, encode_json
from clouditia_gateway.host.notices import MessageFactory

_PRUNE_ABOVE = 256


class Request(NamedTuple):
    """A request of a client, with what is needed of its header."""

    message: Message
    msg_id: str
    msg_type: str

    @property
    def channel(self) -> str:
        """The channel that it came on."""
        return self.message.channel

    def record(self, client_id: str, up_seq: int) -> UpRequest:
        """What the journal keeps of it."""
        return UpRequest(client_id, up_seq, self.msg_id, self.msg_type, self.channel)


def read_request(message: Message) -> Request:
    """Look into the header of a client's message.

    Raises:
        RemoteProtocolError: it is not JSON, or has no ``msg_id`` or ``msg_type``.
    """
    header = decode_json(message.header)
    msg_id, msg_type = header.get("msg_id"), header.get("msg_type")
    if not (isinstance(msg_id, str) and msg_id and isinstance(msg_type, str) and msg_type):
        raise RemoteProtocolError("a request needs a msg_id and a msg_type in its header")
    return Request(message, msg_id, msg_type)


class Answers:
    """Writes the answers that a kernel did not give.

    Args:
        messages: Makes the messages.
        unfinished: The requests that still want an answer.
    """

    def __init__(
        self, messages: MessageFactory, unfinished: Callable[[], list[RequestState]]
    ) -> None:
        self._messages = messages
        self._unfinished = unfinished
        self._headers: dict[str, bytes] = {}
        self._prune_above = _PRUNE_ABOVE

    def remember(self, request: Request) -> None:
        """Keep the header of a request while it is unfinished."""
        if not expects_reply(request.channel, request.msg_type):
            return
        self._headers[request.msg_id] = bytes(request.message.header)
        if len(self._headers) > self._prune_above:
            needed = {state.msg_id for state in self._unfinished()}
            self._headers = {key: self._headers[key] for key in self._headers if key in needed}
            self._prune_above = _PRUNE_ABOVE + 2 * len(self._headers)

    def header_of(self, state: RequestState) -> bytes:
        """The header of a request; a short form of it where a dead host took it along."""
        header = self._headers.get(state.msg_id)
        return header or encode_json({"msg_id": state.msg_id, "msg_type": state.msg_type})

    def failure(self, state: RequestState, cause: Cause) -> list[Message]:
        """What is missing of the answer to ``state``: error in the output, reply, idle."""
        return answers.failure(self._messages.make, self._unanswered(state), cause)

    def missing(self, state: RequestState, reply: dict[str, Any]) -> list[Message]:
        """The reply and the idle of a request, as far as it has not got them."""
        return answers.missing(self._messages.make, self._unanswered(state), reply)

    def success(self, request: Request, content: dict[str, Any]) -> list[Message]:
        """Busy, reply and idle for a request that the host itself has carried out."""
        asked = Unanswered(request.channel, request.msg_type, bytes(request.message.header))
        return answers.success(self._messages.make, asked, content)

    def _unanswered(self, state: RequestState) -> Unanswered:
        header = self.header_of(state)
        return Unanswered(state.channel, state.msg_type, header, state.replied, state.idle_seen)
