"""Which messages of the kernel's one stream a stock client gets to see.

Output on iopub is for everybody; replies and input requests only for whom they answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

_REMEMBERED_REQUESTS = 10_000
_REMEMBERED_SESSIONS = 100
#: Of clients that are away, for how many, for how long, and how many of their last requests each.
_KEPT_AUDIENCES = 500
_KEPT_S = 3600.0
_KEPT_REQUESTS = 200


class Audience:
    """Recognises the answers to one client's requests.

    Args:
        session_id: The ``session_id`` of its URL; front ends use it as message session too.
        belongs_to_another: Whether another client is known to have asked in a message session.
    """

    def __init__(
        self,
        session_id: str,
        belongs_to_another: Callable[[str], bool] = lambda session: False,
    ) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict({session_id: None})
        self._msg_ids: OrderedDict[str, None] = OrderedDict()
        self._belongs_to_another = belongs_to_another
        self._is_fresh = True
        self._is_heir = False

    def asked(self, session: str, msg_id: str) -> None:
        """The client sent a request."""
        if session:
            _remember(self._sessions, session, _REMEMBERED_SESSIONS)
        _remember(self._msg_ids, msg_id, _REMEMBERED_REQUESTS)

    def linked(self, received: int) -> None:
        """The host says how many messages it had from this client before.

        Some, of a client that is new here: it has asked through a gateway that was restarted since,
        in a message session that nobody here has seen. So it hears what nobody else has asked for.
        """
        self._is_heir = self._is_heir or (self._is_fresh and received > 0)
        self._is_fresh = False

    def concerns(self, parent_header: Mapping[str, Any]) -> bool:
        """Whether a message with this parent answers the client."""
        session = parent_header.get("session")
        if not isinstance(session, str) or not session:
            return parent_header.get("msg_id") in self._msg_ids
        if session in self._sessions:
            return True
        return self._is_heir and not self._belongs_to_another(session)

    def speaks_in(self, session: str) -> bool:
        """Whether the client is known to have asked in this message session."""
        return session in self._sessions

    def shrink(self) -> None:
        """The client is away: keep what its answers are most likely to be recognised by."""
        while len(self._msg_ids) > _KEPT_REQUESTS:
            self._msg_ids.popitem(last=False)


class Audiences:
    """The audiences of all clients, kept for an hour after a client has gone.

    A cut may outlast the gateway's end of the client's link by far; the host knows then how far the
    client was, but not in which message session it asks.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kernels: dict[str, dict[str, Audience]] = {}
        self._away: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        """How many are known."""
        return sum(map(len, self._kernels.values()))

    def of(self, kernel_id: str, client_id: str, session_id: str) -> Audience:
        """The audience of a client that is here now: its old one, or a new one."""
        self._forget_old()
        self._away.pop((kernel_id, client_id), None)
        clients = self._kernels.setdefault(kernel_id, {})
        if client_id not in clients:
            clients[client_id] = Audience(
                session_id,
                lambda session: any(
                    other.speaks_in(session) for name, other in clients.items() if name != client_id
                ),
            )
        return clients[client_id]

    def left(self, kernel_id: str, client_id: str) -> None:
        """A client has gone, and may come back."""
        audience = self._kernels.get(kernel_id, {}).get(client_id)
        if audience is not None:
            audience.shrink()
            self._away[kernel_id, client_id] = self._clock()
            self._forget_old()

    def _forget_old(self) -> None:
        oldest_kept = self._clock() - _KEPT_S
        while self._away:
            (kernel_id, client_id), since = next(iter(self._away.items()))
            if len(self._away) <= _KEPT_AUDIENCES and since >= oldest_kept:
                return
            del self._away[kernel_id, client_id]
            clients = self._kernels[kernel_id]
            del clients[client_id]
            if not clients:
                del self._kernels[kernel_id]


def _remember(seen: OrderedDict[str, None], name: str, limit: int) -> None:
    seen[name] = None
    seen.move_to_end(name)
    if len(seen) > limit:
        seen.popitem(last=False)
