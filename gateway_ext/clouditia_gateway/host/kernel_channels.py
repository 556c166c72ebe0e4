"""The ZMQ side: sockets to one kernel process, and the moment from which it may be asked.

A request that a kernel answers before we are subscribed to its output would lose that output. So
the host asks for ``kernel_info`` on its own, and the gate opens with the reply and the first iopub
message (``iopub_welcome`` of JEP 65, or the status of the probe). Where only one of the two comes,
it opens a moment later. What the host changes in the kernel goes through it first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import zmq

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.messages import (
    CONTROL,
    IOPUB,
    SHELL,
    STDIN,
    Buffer,
    Message,
    Signer,
    decode_json,
)
from clouditia.transport.zmq_endpoint import ZmqEndpoint
from clouditia_gateway.host.connection_file import ConnectionInfo
from clouditia_gateway.host.kernel_tuning import tuning_request
from clouditia_gateway.host.notices import MessageFactory

log = logging.getLogger("clouditia.host")

_RECONNECT_MS, _RECONNECT_MAX_MS = 10, 40
#: A kernel that said nothing on control for this long is asked on shell as well.
_SHELL_PROBE_AFTER_S = 2.0
#: How long after the reply to the probe iopub may stay silent, and the other way round.
_GRACE_S = 1.0
_PROBE_AGAIN_S = 0.1
_OWN_TYPES = frozenset(("status", "shutdown_reply"))


class KernelChannels:
    """Sockets to one kernel process.

    Args:
        context: ZMQ context.
        connection: Where the kernel's sockets are.
        messages: Makes the host's own requests.
        on_messages: Gets batches of what the kernel says, without answers to the host itself.
        on_open: Called once when requests may be forwarded.
        on_info: Called with the content of the first ``kernel_info_reply`` to the host.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        connection: ConnectionInfo,
        messages: MessageFactory,
        *,
        on_messages: Callable[[list[Message]], None],
        on_open: Callable[[], None],
        on_info: Callable[[dict[str, object]], None],
    ) -> None:
        self.is_open = False
        self.received = 0  # messages so far: tells whether the kernel has fallen silent
        self._messages = messages
        self._signer = Signer(connection.key.encode())
        # Sockets in a directory of our own need no proof; on TCP any user of the host may connect.
        self._is_verified = connection.transport != "ipc"
        self._on_messages, self._on_open, self._on_info = on_messages, on_open, on_info
        self._own_ids: set[str] = set()
        self._probe_reply_at: float | None = None
        self._published_at: float | None = None
        identity = os.urandom(16).hex().encode()
        self._endpoints = {
            channel: self._connect(context, connection, channel, identity)
            for channel in (IOPUB, CONTROL, SHELL, STDIN)
        }
        self._probing = asyncio.create_task(self._probe())

    def _connect(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        connection: ConnectionInfo,
        channel: str,
        identity: bytes,
    ) -> ZmqEndpoint:
        socket = context.socket(zmq.SUB if channel == IOPUB else zmq.DEALER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.SNDHWM, 0)
        # The kernel binds a moment after we connect; its start should not wait for our next try.
        socket.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        if channel == IOPUB:
            socket.set(zmq.SUBSCRIBE, b"")
        else:
            # One identity on all: a kernel sends input requests to the one that asked on shell.
            socket.set(zmq.IDENTITY, identity)
        socket.connect(connection.url(f"{channel}_port"))
        return ZmqEndpoint(socket, lambda batch: self._receive(channel, batch))

    # --- to the kernel ---------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Forward a client's message."""
        self._endpoints[message.channel].send(self._signer.encode(message))

    def ask(self, channel: str, msg_type: str, content: dict[str, object]) -> None:
        """Send a request of the host itself; its answers are nobody else's business."""
        message = self._messages.make(channel, msg_type, content)
        self._own_ids.add(str(decode_json(message.header)["msg_id"]))
        self.send(message)

    def close(self) -> None:
        """Close all sockets."""
        self._probing.cancel()
        for endpoint in self._endpoints.values():
            endpoint.close()

    # --- from the kernel -------------------------------------------------------------------------

    def _receive(self, channel: str, batch: list[list[Buffer]]) -> None:
        self.received += len(batch)
        accepted: list[Message] = []
        for parts in batch:
            try:
                _, message = self._signer.decode(channel, parts, verify=self._is_verified)
                if self._is_for_clients(message):
                    accepted.append(message)
            except RemoteProtocolError as exc:
                log.warning("a message of the kernel on %s was dropped: %s", channel, exc)
        if accepted:
            self._on_messages(accepted)
        if channel == IOPUB and self._published_at is None:
            self._published_at = asyncio.get_running_loop().time()
            self._open_if_ready()

    def _is_for_clients(self, message: Message) -> bool:
        """Whether a message is to be passed on; takes note of answers to the host itself."""
        if message.channel == STDIN:
            return True
        if message.channel == IOPUB:
            msg_type = decode_json(message.header).get("msg_type")
            if msg_type == "iopub_welcome":
                return False  # about our own subscription
            if msg_type not in _OWN_TYPES:
                return True
        parent_id = decode_json(message.parent_header).get("msg_id")
        if parent_id not in self._own_ids:
            return True
        if message.channel != IOPUB:
            self._take_own_reply(message)
        return False

    def _take_own_reply(self, message: Message) -> None:
        header = decode_json(message.header)
        if header.get("msg_type") != "kernel_info_reply":
            return
        self._messages.session = str(header.get("session") or self._messages.session)
        if self._probe_reply_at is None:
            self._probe_reply_at = asyncio.get_running_loop().time()
            info = decode_json(message.content)
            tuning = tuning_request(info)
            if tuning is not None:
                self.ask(SHELL, "execute_request", tuning)
            self._on_info(info)
            self._open_if_ready()

    # --- the gate --------------------------------------------------------------------------------

    async def _probe(self) -> None:
        """Ask for kernel_info until its reply and something on iopub came, or one is overdue."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        is_shell_asked = False
        self.ask(CONTROL, "kernel_info_request", {})
        while not self.is_open or self._probe_reply_at is None:
            await asyncio.sleep(_PROBE_AGAIN_S)
            self._open_if_ready()
            if self._probe_reply_at is not None and not self.is_open:
                self.ask(CONTROL, "kernel_info_request", {})
            elif not is_shell_asked and loop.time() - started > _SHELL_PROBE_AFTER_S:
                is_shell_asked = True
                self.ask(SHELL, "kernel_info_request", {})

    def _open_if_ready(self) -> None:
        signs = [at for at in (self._probe_reply_at, self._published_at) if at is not None]
        is_late = bool(signs) and asyncio.get_running_loop().time() - signs[0] > _GRACE_S
        if self.is_open or not (len(signs) == 2 or is_late):
            return
        if self._published_at is None:
            log.warning("the kernel publishes nothing on iopub; requests go out anyway")
        self.is_open = True
        self._on_open()
