"""Which front-end socket asked for what: the way back for replies."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RequestTable", "Route"]


class Route(NamedTuple):
    """Where a request came from: its channel and the ROUTER identities of its sender."""

    channel: str
    identities: list[bytes]


class RequestTable:
    """Open requests by ``msg_id``; the oldest are forgotten above ``limit``.

    Args:
        limit: Number of requests that may be open at once. A front end that sends more without
            waiting for replies loses the replies to the oldest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._routes: dict[str, Route] = {}

    def __len__(self) -> int:
        """Open requests."""
        return len(self._routes)

    def remember(self, msg_id: str, route: Route) -> None:
        """A request came in; a repeated ``msg_id`` is answered where it was last asked."""
        self._routes.pop(msg_id, None)
        self._routes[msg_id] = route
        if len(self._routes) > self._limit:
            del self._routes[next(iter(self._routes))]

    def find(self, msg_id: str) -> Route | None:
        """Where the open request came from."""
        return self._routes.get(msg_id)

    def take(self, msg_id: str, channel: str) -> Route | None:
        """Where to send the reply; the request is closed, so that a second reply finds nothing."""
        route = self._routes.get(msg_id)
        if route is None or route.channel != channel:
            return None
        del self._routes[msg_id]
        return route
