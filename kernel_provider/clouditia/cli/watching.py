"""Following one kernel over a link of one's own, until nothing runs any more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from clouditia.errors import (
    ClouditiaError,
    KernelDied,
    KernelNotFound,
    RemoteProtocolError,
    SessionError,
)
from clouditia.protocol.handshake import START_UNFINISHED, SUBPROTOCOL, Hello, Welcome
from clouditia.protocol.link import Delivered, Event, GapSeen, Link, Online, Outbox, Role
from clouditia.protocol.messages import CLOUDITIA, IOPUB, decode_json, decode_v1
from clouditia.rest import GatewayClient
from clouditia.settings import Target
from clouditia.transport.link_connection import LinkConnection
from clouditia.transport.link_runner import FrameTransport
from clouditia.transport.tls import policy_for
from clouditia.transport.websocket import connect

__all__ = ["KernelWatch"]

#: Between two queued requests a kernel is idle for a moment.
_QUIET_S = 0.3
_GOODBYE_S = 0.2
#: States in which nothing more will come, and how to say so.
_RESTING = {
    "idle": "the kernel is idle; nothing runs",
    "dead": "the kernel is dead",
    "ended": "the kernel was ended",
}


class KernelWatch:
    """Reads a kernel's stream; sends it nothing.

    Args:
        target: The gateway.
        kernel_id: The kernel.
        on_message: Gets type and content of each iopub message.
        on_notice: Gets sentences about the connection and about lost messages.
    """

    def __init__(
        self,
        target: Target,
        kernel_id: str,
        *,
        on_message: Callable[[str, dict[str, Any]], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self._target = target
        self._kernel_id = kernel_id
        self._on_message = on_message
        self._on_notice = on_notice
        self._key = target.read_key()
        self._tls = policy_for(target.url, ca_file=target.ca_file, pin=target.pin)
        outbox = Outbox()
        hello = Hello(f"watch-{uuid.uuid4()}", kernel_id, start=START_UNFINISHED, name="attach")
        self._link = Link(Role.CLIENT, outbox, hello=hello)
        self._connection = LinkConnection(
            self._open,
            self._link,
            outbox,
            on_event=self._take,
            on_offline=lambda error: on_notice(f"{error.message}; reconnecting"),
        )
        self._running: set[str] = set()
        self._was_welcomed = False
        self._may_be_done = asyncio.Event()
        self._ending: ClouditiaError | None = None

    async def run_until_idle(self) -> ClouditiaError | str:
        """Follow until the kernel is idle or gone.

        Returns:
            A sentence, or the error that ended the kernel.

        Raises:
            ClouditiaError: the link ended for good (key revoked, kernel unknown, …).
        """
        link = asyncio.create_task(self._connection.run())
        try:
            while True:
                done = asyncio.create_task(self._may_be_done.wait())
                await asyncio.wait({link, done}, return_when=asyncio.FIRST_COMPLETED)
                done.cancel()
                if self._ending is not None:
                    return self._ending
                if link.done():
                    raise link.result()
                self._may_be_done.clear()
                await asyncio.sleep(_QUIET_S)
                if not self._running:
                    state = await asyncio.to_thread(self._state)
                    if state in _RESTING:
                        return _RESTING[state]
        finally:
            self._connection.say_goodbye()
            await asyncio.wait({link}, timeout=_GOODBYE_S)
            link.cancel()
            await asyncio.wait({link})

    def _state(self) -> str:
        try:
            model = GatewayClient(self._target).get_kernel(self._kernel_id)
        except KernelNotFound:
            return "ended"
        return str(model.get("execution_state"))

    async def _open(self) -> FrameTransport:
        return await connect(
            f"{self._target.url}/api/kernels/{self._kernel_id}/channels",
            headers={"Authorization": f"token {self._key}"},
            subprotocols=[SUBPROTOCOL],
            ssl=None if self._tls is None else self._tls.context,
        )

    # --- events of the link ---------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Delivered):
            self._take_message(event)
            self._connection.handled(event.seq)
        elif isinstance(event, GapSeen):
            count = event.info.get("messages") or event.last - event.first + 1
            self._on_notice(f"{count} messages are gone: {event.info.get('reason')}")
            self._connection.handled(event.last)
        elif isinstance(event, Online):
            self._welcomed(event.welcome)

    def _welcomed(self, welcome: Welcome) -> None:
        if not self._was_welcomed and welcome.state.get("execution_state") in ("idle", "dead"):
            self._may_be_done.set()
        self._was_welcomed = True

    def _take_message(self, event: Delivered) -> None:
        try:
            message = decode_v1(event.frame)
            msg_type = str(decode_json(message.header).get("msg_type", ""))
            if message.channel == IOPUB:
                content = decode_json(message.content)
                if msg_type == "status":
                    parent = decode_json(message.parent_header)
                    self._status(str(parent.get("msg_id", "")), content)
                self._on_message(msg_type, content)
            elif message.channel == CLOUDITIA:
                self._notice(msg_type, decode_json(message.content))
        except RemoteProtocolError as exc:
            self._on_notice(f"a message could not be read: {exc.message}")

    def _status(self, msg_id: str, content: dict[str, Any]) -> None:
        state = content.get("execution_state")
        if state == "busy":
            self._running.add(msg_id)
        elif state == "idle":
            self._running.discard(msg_id)
            if not self._running:
                self._may_be_done.set()

    def _notice(self, msg_type: str, content: dict[str, Any]) -> None:
        reason = str(content.get("reason") or "no reason given")
        if msg_type == "kernel_ended":
            self._end(SessionError(f"the kernel was ended: {reason}"))
        elif msg_type == "kernel_exited" and not content.get("expected"):
            exit_code = content.get("exit_code")
            self._end(
                KernelDied(
                    f"the kernel died: {reason}",
                    exit_code=exit_code if isinstance(exit_code, int) else None,
                    last_log=str(content.get("last_stderr") or ""),
                )
            )

    def _end(self, ending: ClouditiaError) -> None:
        self._running.clear()
        self._ending = ending
        self._may_be_done.set()
