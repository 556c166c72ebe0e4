"""Which messages of the kernel's one stream a stock client gets to see.

Output on iopub is for everybody; replies and input requests only for whom they answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_REMEMBERED_REQUESTS = 10_000
_REMEMBERED_SESSIONS = 100


class Audience:
    """Recognises the answers to one client's requests.

    Args:
        session_id: The ``session_id`` of its URL; front ends use it as message session too.
    """

    def __init__(self, session_id: str) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict({session_id: None})
        self._msg_ids: OrderedDict[str, None] = OrderedDict()

    def asked(self, session: str, msg_id: str) -> None:
        """The client sent a request."""
        if session:
            _remember(self._sessions, session, _REMEMBERED_SESSIONS)
        _remember(self._msg_ids, msg_id, _REMEMBERED_REQUESTS)

    def concerns(self, parent_header: Mapping[str, Any]) -> bool:
        """Whether a message with this parent answers the client."""
        session = parent_header.get("session")
        if isinstance(session, str) and session:
            return session in self._sessions
        return parent_header.get("msg_id") in self._msg_ids


def _remember(seen: OrderedDict[str, None], name: str, limit: int) -> None:
    seen[name] = None
    seen.move_to_end(name)
    if len(seen) > limit:
        seen.popitem(last=False)
