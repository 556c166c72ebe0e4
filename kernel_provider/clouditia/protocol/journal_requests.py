"""Which requests a journal has recorded: the memory that lets each of them run once.

A request is known by its ``msg_id`` and type for as long as the kernel lives, finished ones in
about 200 bytes each. The type counts because ``jupyter_client`` clones a ``Session`` with its id:
a kernel manager's first request then has the ``msg_id`` of its client's first.

It is finished when its reply and its idle were both written; a kernel that ends answers nothing by
itself: the host writes what is missing (see ``unfinished``), with the cause.

Source: docs/protocol.md, `known_request`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional

from clouditia.protocol.journal import Record, Tag, expects_reply, request_of

#: Ids of messages without a reply (comm, input) that are remembered. Widgets send them without
#: end; a repeat within a link is caught by its number, this catches one over a new link.
MAX_REPLYLESS_IDS = 4096


@dataclass
class RequestState:
    """A request that is not finished: its reply or its idle has not been written yet."""

    msg_id: str
    msg_type: str
    channel: str
    client_id: str
    up_seq: int
    epoch: int
    first_seq: int
    replied: bool = False
    idle_seen: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether reply and idle were both seen."""
        return self.replied and self.idle_seen


class KnownRequest(NamedTuple):
    """A request that was recorded: its messages are in [first_seq, last_seq].

    ``last_seq`` is None while it is unfinished, and for messages that have no reply.
    """

    first_seq: int
    last_seq: Optional[int]


class RequestLog:
    """Which requests were recorded, which are unfinished, and how far each client got."""

    def __init__(self) -> None:
        self._unfinished: Dict[str, RequestState] = {}
        self._finished_rows: Dict[bytes, int] = {}  # digest of id and type to row in _spans
        self._spans = array("Q")  # first, last
        self._replyless: OrderedDict[str, int] = OrderedDict()
        self._received: Dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Note an UP record; one whose id is known moves only its client's number."""
        request = request_of(record)
        if request.up_seq > self.received_from(request.client_id):
            self._received[request.client_id] = request.up_seq
        if self.known(request.msg_id, request.msg_type) is not None:
            return
        if expects_reply(request.channel, request.msg_type):
            self._unfinished[request.msg_id] = RequestState(
                request.msg_id,
                request.msg_type,
                request.channel,
                request.client_id,
                request.up_seq,
                record.epoch,
                record.seq,
            )
            return
        self._replyless[_key(request.msg_id, request.msg_type)] = record.seq
        if len(self._replyless) > MAX_REPLYLESS_IDS:
            self._replyless.popitem(last=False)

    def answered(self, msg_id: str, tag: int, seq: int) -> None:
        """Note that message ``seq`` is the reply or the idle of a request."""
        state = self._unfinished.get(msg_id)
        if state is None:
            return
        if tag == Tag.REPLY:
            state.replied = True
        else:
            state.idle_seen = True
        if state.is_finished:
            del self._unfinished[msg_id]
            self._finished_rows[_digest(_key(msg_id, state.msg_type))] = len(self._spans) // 2
            self._spans.extend((state.first_seq, seq))

    def known(self, msg_id: str, msg_type: str = "execute_request") -> Optional[KnownRequest]:
        """Where the messages of a recorded request are, or None when it is new."""
        state, key = self._unfinished.get(msg_id), _key(msg_id, msg_type)
        if state is not None and state.msg_type == msg_type:
            return KnownRequest(state.first_seq, None)
        if key in self._replyless:
            return KnownRequest(self._replyless[key], None)
        row = self._finished_rows.get(_digest(key))
        if row is None:
            return None
        return KnownRequest(self._spans[2 * row], self._spans[2 * row + 1])

    def unfinished(self) -> List[RequestState]:
        """Requests without reply or idle, in the order in which they were recorded."""
        return list(self._unfinished.values())

    def received_from(self, client_id: str) -> int:
        """The last number recorded for this client; 0 when there is none."""
        return self._received.get(client_id, 0)


def _key(msg_id: str, msg_type: str) -> str:
    return msg_type + " " + msg_id


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:16]
