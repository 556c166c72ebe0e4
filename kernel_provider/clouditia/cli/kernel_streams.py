"""The stream of one kernel's messages, from either kind of server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from clouditia.bridge.composing import Composer
from clouditia.bridge.link_access import LinkAccess
from clouditia.bridge.stock_access import StockAccess
from clouditia.errors import ClouditiaError
from clouditia.protocol.handshake import START_UNFINISHED, Hello
from clouditia.protocol.link import Delivered, Event, GapSeen, Link, Online, Outbox, Role
from clouditia.protocol.messages import Message, decode_v1
from clouditia.protocol.stock_kernel import Deliver, StockKernel
from clouditia.rest import GatewayClient
from clouditia.settings import Target
from clouditia.transport.link_connection import LinkConnection
from clouditia.transport.stock_connection import StockConnection
from clouditia.transport.stock_socket import StockSocket

__all__ = ["KernelStream", "Listener", "open_stream"]


class Listener(Protocol):
    """Whoever follows a kernel."""

    def connected(self, execution_state: str) -> None:
        """A connection is up; the kernel is in this state."""
        ...

    def take(self, message: Message) -> None:
        """One message of the kernel, or on the ``clouditia`` channel of its host."""
        ...

    def notice(self, sentence: str) -> None:
        """Something about the connection, or about messages that are gone."""
        ...


class KernelStream(Protocol):
    """Listens until told to stop."""

    async def run(self) -> ClouditiaError:
        """Listen until an error that reconnecting cannot mend; returns it."""
        ...

    def say_goodbye(self) -> None:
        """Leave for good; ``run`` returns."""
        ...


def open_stream(target: Target, kernel_id: str, listener: Listener) -> KernelStream:
    """The stream of ``kernel_id``: from its oldest unfinished request where the server keeps it."""
    if target.kind == "plain":
        return _StockStream(target, kernel_id, listener).connection
    return _LinkStream(target, kernel_id, listener).connection


def _lost(listener: Listener) -> Callable[[ClouditiaError], None]:
    return lambda error: listener.notice(f"{error.message}; reconnecting")


class _LinkStream:
    """Over a link of one's own."""

    def __init__(self, target: Target, kernel_id: str, listener: Listener) -> None:
        access = LinkAccess(target)
        self._listener = listener
        outbox = Outbox()
        hello = Hello(f"watch-{uuid.uuid4()}", kernel_id, start=START_UNFINISHED, name="attach")
        self.connection = LinkConnection(
            lambda: access.open(kernel_id),
            Link(Role.CLIENT, outbox, hello=hello),
            outbox,
            on_event=self._hear,
            on_offline=_lost(listener),
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Delivered):
            try:
                self._listener.take(decode_v1(event.frame))
            except ClouditiaError as exc:
                self._listener.notice(f"a message could not be read: {exc.message}")
            self.connection.handled(event.seq)
        elif isinstance(event, GapSeen):
            count = event.info.get("messages") or event.last - event.first + 1
            size = event.info.get("bytes") or 0
            reason = event.info.get("reason")
            self._listener.notice(f"{count} messages ({size} bytes) are gone: {reason}")
            self.connection.handled(event.last)
        elif isinstance(event, Online):
            self._listener.connected(str(event.welcome.state.get("execution_state", "")))


class _StockStream:
    """Over the websocket of a stock server, which says nothing of what came before."""

    def __init__(self, target: Target, kernel_id: str, listener: Listener) -> None:
        self._access = StockAccess(target, GatewayClient(target), kernel_id)
        self._session_id = uuid.uuid4().hex
        self._listener = listener
        self._state = ""
        self._kernel = StockKernel(Composer().message, f"{target.name!r}")
        self.connection = StockConnection(
            self._open,
            next_message=lambda: None,
            on_message=self._hear,
            on_online=self._connected,
            on_offline=_lost(listener),
        )

    async def _open(self) -> StockSocket:
        self._state = await self._access.find_state()
        return await self._access.open(self._session_id)

    def _connected(self) -> None:
        self._kernel.connection_made()
        self._listener.connected(self._state)

    def _hear(self, message: Message) -> None:
        self._kernel.receive(message)
        for action in self._kernel.actions():
            if isinstance(action, Deliver):
                self._listener.take(action.message)
