"""The bridge's end of a stock Jupyter server: the machine, its websocket, its REST calls."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from typing import TYPE_CHECKING

from clouditia.bridge.stock_access import StockAccess
from clouditia.errors import ClouditiaError, KernelNotFound, PackageTooLarge
from clouditia.protocol.handshake import Welcome
from clouditia.protocol.messages import Message, message_of_v1_parts
from clouditia.protocol.stock_kernel import Call, Deliver, Send, StartOver, StockKernel
from clouditia.transport.stock_connection import StockConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.composing import Composer
    from clouditia.bridge.kernel import KernelChannels
    from clouditia.bridge.sockets import LocalSockets
    from clouditia.protocol.link import Event
    from clouditia.protocol.messages import Buffer
    from clouditia.protocol.outbox import Outbox
    from clouditia.protocol.stock_kernel import Action
    from clouditia.rest import GatewayClient
    from clouditia.settings import Target
    from clouditia.transport.link_connection import LinkConnection
    from clouditia.transport.stock_socket import StockSocket

__all__ = ["PlainSide"]

#: What stock servers take in one message; on more they close the connection, and it is lost.
_MAX_SENT_BYTES = 10 * 1024 * 1024
_FRAMING_BYTES = 64 * 1024
#: Between two looks at a kernel that owes an answer; each so many of them ask the server about it.
_LOOK_EVERY_S = 1.0
_LOOKS_A_CALL = 5


class PlainSide:
    """A :class:`~clouditia.bridge.remote_side.RemoteSide` for a stock server.

    Args:
        target: The server.
        channels: Gets the kernel's messages.
        sockets: Held back while the outbox is full.
        outbox: Requests on their way to the kernel.
        composer: Writes messages in the place of the kernel.
        rest: The server's REST interface.
    """

    def __init__(
        self,
        target: Target,
        channels: KernelChannels,
        sockets: LocalSockets,
        outbox: Outbox,
        *,
        composer: Composer,
        rest: GatewayClient,
    ) -> None:
        self._target = target
        self._channels = channels
        self._sockets = sockets
        self._outbox = outbox
        self._rest = rest
        self._loop = asyncio.get_running_loop()
        self._kernel = StockKernel(composer.message, f"{target.name!r}")
        self._to_send: deque[Message] = deque()
        self._connection: StockConnection | None = None
        self._access: StockAccess
        self._session_id = ""
        self._state = ""  # of the kernel, as the server last told it
        self._is_new = True
        self._on_welcome: Callable[[Welcome], None] = lambda welcome: None
        self._look_timer: asyncio.TimerHandle | None = None
        self._looks = 0

    @property
    def is_online(self) -> bool:
        """Whether messages flow now."""
        return self._connection is not None and self._connection.is_online

    def connect(
        self,
        kernel_id: str,
        *,
        is_new: bool,
        on_welcome: Callable[[Welcome], None],
        on_offline: Callable[[ClouditiaError], None],
    ) -> PlainSide:
        """Prepare the connection to a kernel; :meth:`run` is the caller's to start."""
        self._access, self._is_new = StockAccess(self._target, self._rest, kernel_id), is_new
        self._session_id = uuid.uuid4().hex
        self._on_welcome = on_welcome

        def offline(error: ClouditiaError) -> None:
            self._kernel.connection_lost()
            self._to_send.clear()  # probes; what the front end asked for is not in here
            on_offline(error)

        self._connection = StockConnection(
            self._open,
            next_message=self._next_message,
            on_message=self._receive,
            on_online=self._online,
            on_offline=offline,
        )
        return self

    async def run(self) -> ClouditiaError:
        """Stay connected until the kernel or the key is gone; returns that error."""
        if self._connection is None:
            raise RuntimeError("connect() comes first")
        self._look_again()
        try:
            error = await self._connection.run()
        finally:
            if self._look_timer is not None:
                self._look_timer.cancel()
        if isinstance(error, KernelNotFound):
            self._kernel_is_gone()
        return error

    def send(self, parts: list[Buffer]) -> None:
        """Queue a message for the kernel, with or without a connection.

        Raises:
            PackageTooLarge: it is over what a stock server takes, or too much waits already.
        """
        message = message_of_v1_parts(parts)
        if message.size > _MAX_SENT_BYTES - _FRAMING_BYTES:
            raise PackageTooLarge(
                f"a message of {message.size} bytes is too large for {self._target.name!r}: a "
                f"stock Jupyter server takes {_MAX_SENT_BYTES} bytes at once.",
                hint="Send it in pieces, or use a Clouditia gateway, which takes 256 MiB.",
            )
        self._outbox.append(parts)
        if self._outbox.is_full:
            self._sockets.hold_requests(hold=True)
        self._wake()

    @property
    def can_replay(self) -> bool:
        """A stock server forgets what it has forwarded."""
        return False

    def listen(self, start: int, on_event: Callable[[Event], None]) -> LinkConnection:
        """Not here."""
        raise NotImplementedError("a stock server keeps nothing that could be listened to")

    def say_goodbye(self) -> None:
        """Close the connection properly."""
        if self._connection is not None:
            self._connection.say_goodbye()

    def drained(self) -> None:
        """The front end took what was waiting."""
        if self._connection is not None:
            self._connection.hold(hold=self._sockets.is_congested)

    # --- the connection -------------------------------------------------------------------------

    async def _open(self) -> StockSocket:
        if not self._is_new:  # else it has just been started, and there is nothing to ask
            self._state = await self._access.find_state()
        return await self._access.open(self._session_id)

    def _online(self) -> None:
        self._is_new = False
        self._kernel.connection_made()
        state = {"execution_state": self._state, "epoch": self._kernel.epoch, "exit": None}
        self._on_welcome(Welcome(self._access.kernel_id, self._kernel.epoch, 0, 1, 0, state))
        self._act()

    def _receive(self, message: Message) -> None:
        self._kernel.receive(message)
        self._act()
        if self._connection is not None and self._sockets.is_congested:
            self._connection.hold(hold=True)

    def _next_message(self) -> Message | None:
        while not self._to_send and self._kernel.accepts and len(self._outbox):
            self._submit_next()
            self._act(is_sending=True)
        if not self._outbox.is_full:
            self._sockets.hold_requests(hold=False)
        return self._to_send.popleft() if self._to_send else None

    def _submit_next(self) -> None:
        seq = self._outbox.first_seq
        parts = self._outbox.read(seq)
        self._outbox.release(seq)
        if isinstance(parts, list):  # nothing is ever omitted before it was released
            self._kernel.submit(message_of_v1_parts(parts))

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    # --- what the machine wants -----------------------------------------------------------------

    def _act(self, *, is_sending: bool = False) -> None:
        for action in self._kernel.actions():
            self._do(action)
        if not is_sending:
            self._wake()

    def _do(self, action: Action) -> None:
        if isinstance(action, Deliver):
            self._channels.take_from_kernel(action.message)
        elif isinstance(action, Send):
            self._to_send.append(action.message)
        elif isinstance(action, Call):
            self._call(action)
        elif isinstance(action, StartOver) and self._connection is not None:
            self._session_id = uuid.uuid4().hex
            self._connection.start_over()

    def _call(self, call: Call) -> None:
        method = getattr(self._rest, call.verb)
        answer = self._access.ask(lambda: method(self._access.kernel_id))
        answer.add_done_callback(lambda done: self._call_done(call, done.exception()))

    def _call_done(self, call: Call, error: BaseException | None) -> None:
        if isinstance(error, KernelNotFound):
            self._kernel_is_gone()
            return
        if error is not None and not isinstance(error, ClouditiaError):
            raise error
        self._kernel.call_done(call.number, None if error is None else error.to_wire())
        self._act()
        if error is not None:
            self._look_now()  # stock servers answer 500, not 404, to the restart of nothing

    # --- a look at the kernel while it owes an answer -------------------------------------------

    def _look_again(self) -> None:
        self._look_timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._look_again()
        self._looks += 1
        if self._kernel.is_settling:
            self._kernel.ask_again()
            self._act()
        if self.is_online and self._kernel.open_requests and self._looks % _LOOKS_A_CALL == 0:
            self._look_now()

    def _look_now(self) -> None:
        self._access.find_state().add_done_callback(self._looked)

    def _looked(self, answer: asyncio.Future[str]) -> None:
        error = answer.exception()
        if isinstance(error, KernelNotFound):
            self._kernel_is_gone()
        elif error is None and answer.result() == "dead":
            self._kernel.died("the server says that it is dead")
        elif error is None and answer.result() != "busy" and self.is_online:
            self._kernel.ask_again()
        self._act()

    def _kernel_is_gone(self) -> None:
        """Answer what was asked, and what still waits to be sent, then let the bridge end."""
        while len(self._outbox):
            self._submit_next()
        self._kernel.gone(f"{self._target.name!r} has it no longer")
        self._act()
