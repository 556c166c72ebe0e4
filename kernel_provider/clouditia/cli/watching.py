"""Following one kernel, until nothing runs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from clouditia.cli.kernel_streams import open_stream
from clouditia.errors import (
    ClouditiaError,
    KernelDied,
    KernelNotFound,
    RemoteProtocolError,
    SessionError,
)
from clouditia.protocol.messages import CLOUDITIA, IOPUB, Message, decode_json
from clouditia.rest import GatewayClient
from clouditia.settings import Target

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
        self._stream = open_stream(target, kernel_id, self)
        self._running: set[str] = set()
        self._was_connected = False
        self._may_be_done = asyncio.Event()
        self._ending: ClouditiaError | None = None

    async def run_until_idle(self) -> ClouditiaError | str:
        """Follow until the kernel is idle or gone.

        Returns:
            A sentence, or the error that ended the kernel.

        Raises:
            ClouditiaError: the link ended for good (key revoked, kernel unknown, …).
        """
        stream = asyncio.create_task(self._stream.run())
        try:
            while True:
                done = asyncio.create_task(self._may_be_done.wait())
                await asyncio.wait({stream, done}, return_when=asyncio.FIRST_COMPLETED)
                done.cancel()
                if self._ending is not None:
                    return self._ending
                if stream.done():
                    raise stream.result()
                self._may_be_done.clear()
                await asyncio.sleep(_QUIET_S)
                if not self._running:
                    state = await asyncio.to_thread(self._state)
                    if state in _RESTING:
                        return _RESTING[state]
        finally:
            self._stream.say_goodbye()
            await asyncio.wait({stream}, timeout=_GOODBYE_S)
            stream.cancel()
            await asyncio.wait({stream})

    def _state(self) -> str:
        try:
            model = GatewayClient(self._target).get_kernel(self._kernel_id)
        except KernelNotFound:
            return "ended"
        return str(model.get("execution_state"))

    # --- a listener of the stream ---------------------------------------------------------------

    def connected(self, execution_state: str) -> None:
        """A connection is up."""
        if not self._was_connected and execution_state in ("idle", "dead"):
            self._may_be_done.set()
        self._was_connected = True

    def notice(self, sentence: str) -> None:
        """Something about the connection."""
        self._on_notice(sentence)

    def take(self, message: Message) -> None:
        """One message of the kernel or its host."""
        try:
            msg_type = str(decode_json(message.header).get("msg_type", ""))
            if message.channel == IOPUB:
                content = decode_json(message.content)
                if msg_type == "status":
                    parent = decode_json(message.parent_header)
                    self._status(str(parent.get("msg_id", "")), content)
                self._on_message(msg_type, content)
            elif message.channel == CLOUDITIA:
                self._host_says(msg_type, decode_json(message.content))
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

    def _host_says(self, msg_type: str, content: dict[str, Any]) -> None:
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
