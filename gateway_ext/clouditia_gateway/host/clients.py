"""The links to clients: one per client id, for as long as the host lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from clouditia.errors import (
    ClouditiaError,
    KernelNotFound,
    LocalProtocolError,
    RemoteProtocolError,
    SessionError,
)
from clouditia.protocol import frames
from clouditia.protocol.handshake import (
    Hello,
    Welcome,
    choose_protocol,
    parse_hello,
    resume_point,
)
from clouditia.protocol.link import (
    ClosedByPeer,
    Delivered,
    Event,
    HelloReceived,
    Link,
    LinkConfig,
    LinkState,
    Online,
    PeerAcked,
    Role,
)
from clouditia.protocol.messages import Message, decode_v1
from clouditia.transport.link_runner import FrameTransport, LinkRunner, TransportClosed
from clouditia_gateway.host.journal_files import JournalFiles

log = logging.getLogger("clouditia.host")

_HELLO_TIMEOUT_S = 60.0
#: Links of clients that are away, kept for where they stood; the journal knows the rest.
_MAX_OFFLINE_LINKS = 256


class Requests(Protocol):
    """Who takes what clients ask."""

    def submit(self, client_id: str, up_seq: int, message: Message) -> None:
        """Record and carry out one message of a client."""
        ...


class _Client:
    """One client id: its link, and the connection that serves it now."""

    def __init__(self, client_id: str, link: Link, on_event: Callable[[_Client, Event], None]):
        self.client_id = client_id
        self.link = link
        self.runner = LinkRunner(link, on_event=lambda event: on_event(self, event))
        self.transport: FrameTransport | None = None
        self.task: asyncio.Task[Any] | None = None
        self.has_left = False


class ClientLinks:
    """All clients of this kernel.

    Args:
        kernel_id: Which kernel a client must have asked for.
        journal: The stream that all of them read.
        requests: Takes what they send.
        state: The host's STATE, for the welcome.
        on_change: Called when a client came, went or acknowledged something.
        starts_at: Number of the first message that a new client gets, unless it says otherwise.
    """

    def __init__(
        self,
        kernel_id: str,
        journal: JournalFiles,
        requests: Requests,
        *,
        state: Callable[[], dict[str, Any]],
        on_change: Callable[[], None],
        starts_at: Callable[[], int] | None = None,
        config: LinkConfig | None = None,
    ) -> None:
        self._kernel_id = kernel_id
        self._journal = journal
        self._requests = requests
        self._state = state
        self._on_change = on_change
        self._starts_at = starts_at or journal.index.oldest_unfinished_seq
        self._config = config or LinkConfig()
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    @property
    def online(self) -> int:
        """How many clients are connected."""
        return sum(client.link.state is LinkState.ONLINE for client in self._clients.values())

    @property
    def are_all_done(self) -> bool:
        """Whether every connected client has acknowledged every message."""
        newest = self._journal.next_seq - 1
        online = [item for item in self._clients.values() if item.link.state is LinkState.ONLINE]
        return all(client.link.peer_acked >= newest for client in online)

    def wake(self) -> None:
        """The journal has grown."""
        for client in self._clients.values():
            if client.transport is not None:
                client.runner.wake()

    async def serve(self, transport: FrameTransport) -> None:
        """Serve one data connection to its end."""
        try:
            first = await self._first_frame(transport)
            hello = parse_hello(first)
            choose_protocol(hello.protocol)
            self._check(hello)
            client = await self._client(hello.client_id)
        except TransportClosed:
            return
        except ClouditiaError as error:
            log.warning("a client was refused: %s", error.message)
            await _refuse(transport, error)
            return
        client.transport, client.task = transport, asyncio.current_task()
        try:
            ended = await client.runner.run(transport, first)
            log.info("client %r left: %s", hello.name, ended.message)
        finally:
            if client.task is asyncio.current_task():
                client.transport = client.task = None
            if client.link.is_closed or client.has_left:
                self._clients.pop(hello.client_id, None)
            self._on_change()

    async def _first_frame(self, transport: FrameTransport) -> Any:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                return await transport.receive()
        except TimeoutError:
            raise RemoteProtocolError(
                f"no HELLO within {_HELLO_TIMEOUT_S:.0f} s of connecting"
            ) from None

    def _check(self, hello: Hello) -> None:
        if hello.kernel_id not in (None, self._kernel_id):
            raise KernelNotFound(f"this is kernel {self._kernel_id}, not {hello.kernel_id}")

    async def _client(self, client_id: str) -> _Client:
        """The client of that id, free for a new connection."""
        while (client := self._clients.get(client_id)) is not None and client.task is not None:
            error = SessionError("another connection of this client has taken over")
            await _supersede(client, error)
        if client is None or client.link.is_closed:
            link = Link(Role.HOST, self._journal, config=self._config)
            client = self._clients[client_id] = _Client(client_id, link, self._on_event)
            self._forget_old_links()
        self._clients.move_to_end(client_id)
        return client

    def _forget_old_links(self) -> None:
        offline = [key for key, client in self._clients.items() if client.task is None]
        for client_id in offline[: max(0, len(offline) - _MAX_OFFLINE_LINKS)]:
            del self._clients[client_id]

    # --- events of links -------------------------------------------------------------------------

    def _on_event(self, client: _Client, event: Event) -> None:
        if isinstance(event, Delivered):
            self._deliver(client, event)
        elif isinstance(event, HelloReceived):
            welcome = self._welcome(client, event.hello)
            client.link.accept(welcome, time.monotonic())
        elif isinstance(event, ClosedByPeer):
            client.has_left = event.is_goodbye
        elif isinstance(event, (Online, PeerAcked)):
            self._on_change()

    def _deliver(self, client: _Client, event: Delivered) -> None:
        try:
            self._requests.submit(client.client_id, event.seq, decode_v1(event.frame))
        except RemoteProtocolError as error:
            # A client that sends nonsense is told so; it may come back and do better.
            log.warning("a malformed request closed a client's link: %s", error.message)
            client.link.close(error.to_wire())
        else:
            client.link.handled(event.seq)
        client.runner.wake()

    def _welcome(self, client: _Client, hello: Hello) -> Welcome:
        index = self._journal.index
        start, _ = resume_point(
            hello,
            remembered=client.link.peer_acked or None,
            first_seq=index.first_seq,
            next_seq=index.next_seq,
            unfinished=self._starts_at(),
        )
        return Welcome(
            kernel_id=self._kernel_id,
            epoch=index.epoch,
            received=index.received_from(client.client_id),
            next=start,
            window=self._config.window_bytes,
            state=self._state(),
        )


async def _supersede(client: _Client, error: ClouditiaError) -> None:
    transport, task = client.transport, client.task
    if transport is None or task is None:
        raise LocalProtocolError("only a connected client can be superseded")
    await _refuse(transport, error)
    task.cancel()
    await asyncio.wait([task])


async def _refuse(transport: FrameTransport, error: ClouditiaError) -> None:
    with suppress(TransportClosed):  # it did not wait for the answer
        await transport.send([frames.encode_json_frame(frames.CLOSE, error.to_wire())])
    await transport.close()
