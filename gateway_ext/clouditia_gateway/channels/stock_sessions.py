"""The stock sessions of this gateway, by kernel, user and ``session_id``."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import TYPE_CHECKING

from clouditia_gateway.channels.stock_audience import Audiences
from clouditia_gateway.channels.stock_session import StockSession

if TYPE_CHECKING:
    from clouditia_gateway.channels.host_access import HostAccess


class StockSessions:
    """Finds the session that a new socket goes on with, or makes one."""

    def __init__(self) -> None:
        self._sessions: dict[str, StockSession] = {}
        self._audiences = Audiences(time.monotonic)

    def __len__(self) -> int:
        """How many are alive, with or without a socket."""
        return len(self._sessions)

    def find_or_create(self, access: HostAccess, session_id: str) -> StockSession:
        """The session of a client; one that gave no ``session_id`` always gets a new one."""
        name = session_id or uuid.uuid4().hex
        client_id = _client_id(access.kernel_id, access.principal.user, name)
        found = self._sessions.get(client_id)
        if found is not None:
            return found
        session = StockSession(
            client_id=client_id,
            session_id=name,
            audience=self._audiences.of(access.kernel_id, client_id, name),
            access=access,
            on_end=lambda: self._forget(access.kernel_id, client_id, session),
        )
        self._sessions[client_id] = session
        return session

    def close(self) -> None:
        """Let go of every client; the kernel hosts remember them."""
        for session in list(self._sessions.values()):
            session.stop()

    def _forget(self, kernel_id: str, client_id: str, session: StockSession) -> None:
        if self._sessions.get(client_id) is session:
            del self._sessions[client_id]
            self._audiences.left(kernel_id, client_id)


def _client_id(kernel_id: str, user: str, session_id: str) -> str:
    """A name that only this user's sockets with this ``session_id`` get."""
    joined = "\0".join((kernel_id, user, session_id)).encode("utf-8", "surrogatepass")
    return "stock-" + hashlib.sha256(joined).hexdigest()[:40]
