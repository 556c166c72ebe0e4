"""Where requests arrive: recorded first, carried out once, and always answered.

By the kernel where it can; by the host, with the reason, where the kernel cannot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from clouditia.errors import ClouditiaError, ConfigError, RemoteProtocolError
from clouditia.protocol.answers import Cause
from clouditia.protocol.journal_requests import RequestState
from clouditia.protocol.messages import CLOUDITIA, CONTROL, IOPUB, SHELL, Message, decode_json
from clouditia_gateway.host.activity import Activity
from clouditia_gateway.host.chronicle import Chronicle
from clouditia_gateway.host.kernel_channels import KernelChannels
from clouditia_gateway.host.requests import Answers, Request, read_request

log = logging.getLogger("clouditia.host")

COMMANDS = ("interrupt", "restart", "shutdown")
#: A client's only: where are the messages of a request?
FIND = "find"


class Kernel(Protocol):
    """What the desk needs of the supervisor."""

    activity: Activity
    channels: KernelChannels | None
    reason: str
    ended: asyncio.Event

    @property
    def is_dead(self) -> bool:
        """Whether there is no kernel process and none is on its way."""
        ...

    @property
    def accepts_requests(self) -> bool:
        """Whether the kernel can be asked now."""
        ...

    def death(self, words: str = "{}.") -> Cause:
        """Why a dead kernel does not answer."""
        ...

    def interrupt(self) -> None:
        """Interrupt what the kernel runs."""
        ...

    async def restart(self, request: Request | None = None) -> None:
        """Replace the kernel process."""
        ...

    async def shutdown(self, request: Request | None = None) -> None:
        """End the kernel for good."""
        ...


class RequestDesk:
    """Takes the messages of all clients.

    Args:
        kernel: Whom they are for.
        chronicle: Where they are recorded.
        interrupt_mode: ``message`` or ``signal``, as in the kernelspec.
    """

    def __init__(self, kernel: Kernel, chronicle: Chronicle, *, interrupt_mode: str) -> None:
        self._kernel = kernel
        self._chronicle = chronicle
        self._is_interrupted_by_message = interrupt_mode == "message"
        self._answers = Answers(chronicle.messages, chronicle.unfinished)
        self._held: list[Request] = []  # until the kernel can be asked
        self._crash: str | None = None  # to be told in the first cell after the restart
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, client_id: str, up_seq: int, message: Message) -> None:
        """Record one message of a client and carry it out, unless it was carried out before.

        Raises:
            RemoteProtocolError: the message has no usable header, or nobody listens there.
        """
        if message.channel == IOPUB:
            raise RemoteProtocolError("a client sent a message on iopub")
        request = read_request(message)
        known = self._chronicle.asked(request.record(client_id, up_seq))
        self._kernel.activity.touch(self._chronicle.now_ns())
        if known is not None:
            facts = {"msg_id": request.msg_id, "first": known.first_seq, "last": known.last_seq}
            self._chronicle.notice("known_request", **facts)
            return
        self._answers.remember(request)
        if message.channel == CLOUDITIA:
            self._start(self._run_client_command(message))
        else:
            self._dispatch(request)

    def _dispatch(self, request: Request) -> None:
        is_request = request.channel in (SHELL, CONTROL)
        if is_request and request.msg_type == "shutdown_request":
            self._start(self._run_shutdown_request(request))
        elif self._kernel.is_dead:
            self._fail([request.msg_id], self._dead_cause())
        elif request.msg_type == "interrupt_request" and not self._is_interrupted_by_message:
            self._kernel.interrupt()
            self._chronicle.publish(self._answers.success(request, {}))
        elif self._kernel.channels is None or not self._kernel.accepts_requests:
            self._held.append(request)
        else:
            self._forward(self._kernel.channels, request)

    def _forward(self, channels: KernelChannels, request: Request) -> None:
        if self._crash is not None and request.msg_type == "execute_request":
            text = (
                f"[clouditia] the kernel died ({self._crash}) and was restarted; "
                "its variables are gone.\n"
            )
            self._crash = None
            parent = bytes(request.message.header)
            self._chronicle.publish([self._chronicle.messages.stderr(text, parent)])
        channels.send(request.message)

    def release_held(self) -> None:
        """The kernel can be asked now: forward what waited, in order."""
        held, self._held = self._held, []
        for request in held:
            self._dispatch(request)

    # --- commands --------------------------------------------------------------------------------

    async def run(self, command: str) -> None:
        """Interrupt, restart or shut down, for a client or the gateway.

        Raises:
            ConfigError: there is no such command.
            SessionError: the kernel is not in a state for it.
        """
        if command == "interrupt":
            self._kernel.interrupt()
        elif command == "restart":
            await self._kernel.restart()
        elif command == "shutdown":
            await self._kernel.shutdown()
        else:
            known = ", ".join(COMMANDS)
            raise ConfigError(f"a kernel host knows the commands {known}, not {command[:80]!r}")

    async def _run_client_command(self, message: Message) -> None:
        error: dict[str, Any] | None = None
        command_id: object = None
        found: Mapping[str, int | None] = {}
        try:
            content = decode_json(message.content)
            command_id = content.get("id")
            if content.get("command") == FIND:
                found = self._chronicle.find(str(content.get("msg_id")))
            else:
                await self.run(str(content.get("command")))
        except ClouditiaError as exc:
            error = exc.to_wire()
        done = error is None
        self._chronicle.notice("command_reply", id=command_id, ok=done, error=error, **found)

    async def _run_shutdown_request(self, request: Request) -> None:
        is_restart = False
        try:
            is_restart = decode_json(request.message.content).get("restart") is True
            if is_restart:
                await self._kernel.restart(request)
            else:
                await self._kernel.shutdown(request)
        except ClouditiaError as error:
            self._fail([request.msg_id], Cause("KernelDied", error.message, in_output=False))
        self.answer_shutdown(request, is_restart=is_restart)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request could not be carried out: %s: %s", type(error).__name__, error)

    def tell_running_cell(self, text: str) -> None:
        """Write a line into the output of the cell that runs; nothing where none does."""
        for state in self._chronicle.unfinished():
            if state.msg_type == "execute_request":
                header = self._answers.header_of(state)
                self._chronicle.publish([self._chronicle.messages.stderr(text, header)])
                return

    # --- answers in the kernel's place -----------------------------------------------------------

    def is_waiting_for_kernel(self, channel: str) -> bool:
        """Whether the kernel owes an answer on ``channel``."""
        held = {request.msg_id for request in self._held}
        return any(
            state.channel == channel and state.msg_type != "shutdown_request"
            for state in self._chronicle.unfinished()
            if state.msg_id not in held
        )

    def kernel_died(self, cause: Cause) -> None:
        """Answer everything unfinished; remember the cause for the first cell after a restart."""
        self._crash = cause.sentence.rstrip(".")
        self._held.clear()
        self._fail(None, cause)

    def kernel_stopped(self, cause: Cause) -> None:
        """The kernel was ended on purpose: answer what it did not; what waits goes to the next."""
        self._crash = None
        if self._kernel.ended.is_set():
            self._held.clear()
        held = {request.msg_id for request in self._held}
        left = [
            state.msg_id
            for state in self._chronicle.unfinished()
            if state.msg_id not in held and state.msg_type != "shutdown_request"
        ]
        self._fail(left, cause)

    def answer_shutdown(self, request: Request | None, *, is_restart: bool) -> None:
        """Say what is missing of the reply to a shutdown request, once its kernel is gone."""
        if request is not None:
            for state in self._unfinished([request.msg_id]):
                reply = {"status": "ok", "restart": is_restart}
                self._chronicle.publish(self._answers.missing(state, reply))

    def _fail(self, msg_ids: list[str] | None, cause: Cause) -> None:
        """Answer unfinished requests (all, or those of ``msg_ids``) with a cause."""
        answers: list[Message] = []
        for state in self._unfinished(msg_ids):
            answers.extend(self._answers.failure(state, cause))
        self._chronicle.publish(answers)

    def _unfinished(self, msg_ids: list[str] | None) -> list[RequestState]:
        states = self._chronicle.unfinished()
        return [state for state in states if msg_ids is None or state.msg_id in msg_ids]

    def _dead_cause(self) -> Cause:
        if self._kernel.ended.is_set():
            return Cause("KernelEnded", "the kernel was shut down.")
        return self._kernel.death("the kernel is dead: {}; restart it to go on.")
