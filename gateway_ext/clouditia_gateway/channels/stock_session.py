"""One stock client: the gateway holds its end of a link, so that a lost host leg is only a pause.

A session is (kernel, user, ``session_id``) and outlives its websockets for a moment; after that the
kernel host remembers how far the client was. A message counts as handled when the client has
answered a websocket ping that was sent after it: what a cut caught on its way comes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tornado.websocket import WebSocketClosedError

from clouditia.errors import ClouditiaError, GatewayUnreachable, KernelNotFound, ProtocolError
from clouditia.protocol.handshake import Hello
from clouditia.protocol.link import (
    Delivered,
    Event,
    GapSeen,
    Link,
    LinkConfig,
    Online,
    PeerAcked,
    Role,
)
from clouditia.protocol.messages import (
    CLOUDITIA,
    IOPUB,
    Buffer,
    decode_json,
    decode_v1,
    peek_channel,
)
from clouditia.protocol.outbox import Outbox
from clouditia.transport.link_connection import LinkConnection
from clouditia_gateway.channels import close_codes
from clouditia_gateway.channels.stock_forms import Refused
from clouditia_gateway.channels.stock_notices import death_epoch, gap_frame, status_frame
from clouditia_gateway.channels.transport import HostTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clouditia.transport.link_runner import FrameTransport
    from clouditia_gateway.channels.host_access import HostAccess
    from clouditia_gateway.channels.socket import ChannelSocket
    from clouditia_gateway.channels.stock_audience import Audience
    from clouditia_gateway.channels.stock_forms import StockForm

log = logging.getLogger("clouditia.gateway")

#: Message bytes that the host may send ahead of the client's socket.
WINDOW_BYTES = 2 * 1024 * 1024
#: The client is held while more than this waits for the host.
HOLD_BYTES = 32 * 1024 * 1024
#: A session without socket goes on this long for its last ack, and for requests on their way.
LINGER_S = 1.0
LINGER_UNSENT_S = 30.0


@dataclass(frozen=True)
class _Outgoing:
    """A message for the socket; ``seq`` is 0 for one that the gateway made up."""

    seq: int
    frame: Buffer


class StockSession:
    """The link of one stock client.

    Args:
        client_id: Under which the kernel host remembers this client.
        session_id: The client's own name for itself.
        audience: Knows the answers to its requests, also to those before a cut.
        access: Opens data connections to the kernel's host.
        on_end: Called once when the session is over.
    """

    def __init__(
        self,
        *,
        client_id: str,
        session_id: str,
        audience: Audience,
        access: HostAccess,
        on_end: Callable[[], None],
    ) -> None:
        self._outbox = Outbox()
        hello = Hello(client_id=client_id, kernel_id=access.kernel_id, name="stock client")
        config = LinkConfig(window_bytes=WINDOW_BYTES)
        link = Link(Role.CLIENT, self._outbox, hello=hello, config=config)
        self._connection = LinkConnection(
            self._connect, link, self._outbox, on_event=self._on_event
        )
        self._kernel_id = access.kernel_id
        self._session_id = session_id
        self._access = access
        self._on_end = on_end
        self._audience = audience
        self._socket: ChannelSocket | None = None
        self._form: StockForm | None = None
        self._outgoing: deque[_Outgoing] = deque()
        self._written: deque[_Outgoing] = deque()  # on their way to the client, for all we know
        self._awaits_receipt = False
        self._is_writing = False
        self._room: asyncio.Future[None] | None = None
        self._epoch = 0
        self._is_kernel_dead = False
        self._told_death_of = -1
        self._linger: asyncio.TimerHandle | None = None
        self._was_online = False
        self._task = asyncio.create_task(self._stay_linked())

    # --- the client's socket ---------------------------------------------------------------------

    def attach(self, socket: ChannelSocket, form: StockForm) -> None:
        """Serve this socket from now on; an older one is closed."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        older, self._socket = self._socket, socket
        self._form = form
        self._is_writing = self._awaits_receipt = False
        self._outgoing.extendleft(reversed(self._written))
        self._written.clear()
        if older is not None:
            older.shut(close_codes.REPLACED, "replaced: this session_id was opened again")
        self._pump()

    def detach(self, socket: ChannelSocket) -> None:
        """A socket is gone; the session ends soon if no other comes."""
        if self._socket is not socket:
            return
        self._socket = None
        self._is_writing = False
        self._release_client()
        self._end_soon()

    def _end_soon(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        delay_s = LINGER_UNSENT_S if len(self._outbox) else LINGER_S
        self._linger = asyncio.get_running_loop().call_later(delay_s, self.stop)

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """Pass on a message of the client; what is returned is done when there is room again."""
        if self._form is None or self._socket is None:
            return None
        try:
            request = self._form.read(message)
            self._connection.send(list(request.parts))
        except Refused as refused:
            self._socket.shut(refused.close_code, refused.message)
            return None
        except ClouditiaError as error:
            self._socket.shut(close_codes.POLICY_VIOLATION, error.message)
            return None
        self._audience.asked(request.session, request.msg_id)
        if self._outbox.pending_bytes <= HOLD_BYTES:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _release_client(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # --- the link --------------------------------------------------------------------------------

    async def _stay_linked(self) -> None:
        error = await self._connection.run()
        log.warning("kernel %s: stock client given up: %s", self._kernel_id, error)
        self._shut_socket(error)
        self._end()

    async def _connect(self) -> FrameTransport:
        try:
            return HostTransport(await self._access.open_data())
        except KernelNotFound:
            raise
        except ClouditiaError as error:
            if not self._was_online:
                self._shut_socket(error)
            raise GatewayUnreachable(error.message, retryable=True) from error

    def _shut_socket(self, error: ClouditiaError) -> None:
        if self._socket is None:
            return
        code = close_codes.HOST_LOST
        if isinstance(error, KernelNotFound):
            code = close_codes.UNKNOWN_KERNEL
        elif isinstance(error, ProtocolError):
            code = close_codes.INTERNAL_ERROR
        self._socket.shut(code, error.message)

    def stop(self) -> None:
        """Let go of the link; the host remembers what was handled."""
        if len(self._outbox):
            log.warning(
                "kernel %s: %d requests of a client that left were not taken by the host",
                self._kernel_id,
                len(self._outbox),
            )
        self._task.cancel()
        if self._socket is not None:
            self._socket.shut(close_codes.GOING_AWAY, "the gateway stops; the kernel does not")
        self._end()

    def _end(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._release_client()
        self._on_end()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Delivered):
            self._outgoing.append(_Outgoing(event.seq, event.frame))
            self._pump()
        elif isinstance(event, PeerAcked):
            if self._outbox.pending_bytes <= HOLD_BYTES:
                self._release_client()
            if self._linger is not None:
                self._end_soon()
        elif isinstance(event, Online):
            self._was_online = True
            self._audience.linked(event.welcome.received)
            self._epoch = max(self._epoch, event.welcome.epoch)
            self._is_kernel_dead = event.welcome.state.get("execution_state") == "dead"
        elif isinstance(event, GapSeen):
            frame = gap_frame(event.info, event.last - event.first + 1, self._session_id)
            self._outgoing.append(_Outgoing(event.last, frame))
            self._pump()

    # --- from the link to the socket -------------------------------------------------------------

    def _pump(self) -> None:
        """Write what waits, one message at a time; a flushed message is handled."""
        while self._outgoing and not self._is_writing:
            if self._socket is None or self._form is None or self._socket.is_closing:
                return
            shown = self._shown(self._outgoing[0].frame)
            flushed = self._write(self._socket, self._form, shown) if shown else None
            if flushed is None or flushed.done():
                self._wrote(self._socket)
            else:
                self._is_writing = True
                flushed.add_done_callback(partial(self._flushed, self._socket))

    def _write(
        self, socket: ChannelSocket, form: StockForm, frame: Buffer
    ) -> asyncio.Future[None] | None:
        parts, is_text = form.write(frame)
        try:
            return socket.write_now(parts, text=is_text)
        except WebSocketClosedError:
            # Nothing was written: the message waits for the next socket of this session.
            return asyncio.get_running_loop().create_future()

    def _flushed(self, socket: ChannelSocket, done: asyncio.Future[None]) -> None:
        if socket is not self._socket or done.cancelled() or done.exception() is not None:
            return
        self._is_writing = False
        self._wrote(socket)
        self._pump()

    def _wrote(self, socket: ChannelSocket) -> None:
        self._written.append(self._outgoing.popleft())
        if not self._awaits_receipt:
            self._awaits_receipt = True
            socket.ask_receipt(partial(self._received, socket, len(self._written)))

    def _received(self, socket: ChannelSocket, count: int) -> None:
        """The client has the oldest ``count`` of what was written to this socket."""
        if socket is not self._socket:
            return
        seq = max([self._written.popleft().seq for _ in range(count)])
        if seq:
            self._connection.handled(seq)
        self._awaits_receipt = bool(self._written)
        if self._written:
            socket.ask_receipt(partial(self._received, socket, len(self._written)))

    def _shown(self, frame: Buffer) -> Buffer | None:
        """What the client sees of a message, ``None`` for nothing."""
        try:
            channel = peek_channel(frame)
            if channel == IOPUB:
                return frame
            message = decode_v1(frame)
            if channel == CLOUDITIA:
                header = decode_json(message.header)
                return self._translated(str(header.get("msg_type")), decode_json(message.content))
            if not self._audience.concerns(decode_json(message.parent_header)):
                return None
        except ClouditiaError as error:
            log.warning("kernel %s: its host sent a malformed message: %s", self._kernel_id, error)
            return None
        if self._is_kernel_dead:
            self._tell_death(self._epoch)
        return frame

    def _translated(self, msg_type: str, content: dict[str, object]) -> Buffer | None:
        """The stock form of a host's notice, ``None`` where there is none."""
        if msg_type == "kernel_state":
            epoch = content.get("epoch")
            self._epoch = max(self._epoch, epoch if isinstance(epoch, int) else 0)
        died = death_epoch(msg_type, content)
        # A notice that is replayed after a restart speaks of a kernel that was replaced.
        if died is None or died < self._epoch or self._told_death_of >= self._epoch:
            return None
        self._told_death_of = self._epoch
        return status_frame("dead", self._session_id)

    def _tell_death(self, epoch: int) -> None:
        """Say once, after the first answer, that a kernel which was dead before is dead."""
        if self._told_death_of >= epoch:
            return
        self._told_death_of = epoch
        self._outgoing.insert(1, _Outgoing(0, status_frame("dead", self._session_id)))
