"""One kernel over its epochs: what starts and ends its processes, and what that means to clients.

How requests reach the kernel is :mod:`clouditia_gateway.host.desk`'s business; here is its life:
start, readiness, death, restart, shutdown. One of them happens at a time.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import zmq

from clouditia.errors import RemoteProtocolError, SessionError
from clouditia.protocol.answers import Cause
from clouditia.protocol.messages import CONTROL, IOPUB, SHELL, Buffer, Message, decode_json
from clouditia_gateway.host.activity import BUSY, DEAD, IDLE, RESTARTING, STARTING, Activity
from clouditia_gateway.host.chronicle import Chronicle
from clouditia_gateway.host.connection_file import ConnectionInfo
from clouditia_gateway.host.desk import RequestDesk
from clouditia_gateway.host.exit_facts import HOST, ExitFacts
from clouditia_gateway.host.kernel_channels import KernelChannels
from clouditia_gateway.host.kernel_process import KernelProcess
from clouditia_gateway.host.launch import Launched
from clouditia_gateway.host.requests import Request

log = logging.getLogger("clouditia.host")

#: How long a kernel may take to end by itself, and after how much of it SIGTERM is tried.
GRACE_S, TERMINATE_AFTER_S = 5.0, 2.5
#: How long the system may take to end what was killed.
KILL_S = 6.0
#: After the end of a kernel its sockets are read until they are silent for this long.
_QUIET_S, _DRAIN_LIMIT_S = 0.05, 2.0
HOST_DIED = "kernel host died"
#: The reason in STATE once the kernel was shut down for good.
ENDED = "ended"
_CONTROL_TYPES = frozenset(("interrupt_request", "shutdown_request", "debug_request"))


class Supervisor:
    """Keeps one kernel.

    Args:
        launched: What the fast start has begun.
        chronicle: Where everything is written down.
        on_state: Called when :meth:`state` has changed.
    """

    def __init__(
        self, launched: Launched, chronicle: Chronicle, *, on_state: Callable[[], None]
    ) -> None:
        self.activity = Activity()
        self.ended = asyncio.Event()  # shut down for good
        self.desk = RequestDesk(self, chronicle, interrupt_mode=launched.spec.interrupt_mode)
        self.channels: KernelChannels | None = None
        self.reason = ""
        self.ended_because = ""
        self._last_cell: Buffer = b"{}"
        self._spec = launched.spec
        self._chronicle = chronicle
        self._on_state = on_state
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._exit: dict[str, Any] | None = None
        self._protocol_version: str | None = None
        self._is_end_expected = False
        self._last_facts = ExitFacts.not_started("the kernel never ran")
        self._lifecycle = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None
        self._burial: asyncio.Task[None] | None = None
        self.process = KernelProcess(
            self._spec.command(),
            launched.keeper,
            on_started=on_state,
            on_ended=self._process_ended,
        )
        self.activity.touch(chronicle.now_ns())
        chronicle.is_idle_expected = lambda: self.activity.execution_state == BUSY

    @property
    def is_dead(self) -> bool:
        """Whether there is no kernel process and none is on its way."""
        return self.activity.lifecycle == DEAD

    @property
    def accepts_requests(self) -> bool:
        """Whether the kernel can be asked now; else requests wait."""
        is_open = self.channels is not None and self.channels.is_open
        return is_open and not self._is_end_expected

    @property
    def last_stderr(self) -> str:
        """The last lines of the kernel process that ended."""
        return str((self._exit or {}).get("last_stderr", ""))

    def state(self) -> dict[str, Any]:
        """STATE of docs/host-protocol.md, without ``connections``."""
        return {
            "epoch": self._chronicle.epoch,
            "execution_state": self.activity.execution_state,
            "reason": self.reason,
            "ended_because": self.ended_because,
            "last_activity": self.activity.last_activity,
            "pid": self.process.pid,
            "exit": self._exit,
            "protocol_version": self._protocol_version,
        }

    def publish_state(self) -> None:
        """Tell clients and gateway where the kernel stands."""
        self._chronicle.notice(
            "kernel_state",
            epoch=self._chronicle.epoch,
            execution_state=self.activity.execution_state,
            reason=self.reason,
        )
        self._on_state()

    def announce(self, text: str) -> None:
        """Write a line into the kernel's output, below the cell that ran last."""
        self._chronicle.publish([self._chronicle.messages.stderr(text, self._last_cell)])

    # --- start -----------------------------------------------------------------------------------

    def begin_epoch(self, connection: ConnectionInfo) -> None:
        """A kernel process is about to start, or has just been started."""
        self._chronicle.begin_epoch()
        self.reason, self._exit, self._protocol_version = "", None, None
        self._is_end_expected = False
        self.activity.enter(STARTING)
        self.channels = KernelChannels(
            self._context,
            connection,
            self._chronicle.messages,
            on_messages=self._kernel_said,
            on_open=self.desk.release_held,
            on_info=self._kernel_info,
        )
        self.publish_state()
        self._chronicle.publish([self._chronicle.messages.status(STARTING)])

    def _kernel_info(self, info: dict[str, object]) -> None:
        self._protocol_version = str(info.get("protocol_version") or "") or None
        self._on_state()
        self._become_ready()

    def _become_ready(self) -> None:
        """The kernel answers: tell everybody, once an epoch."""
        if self.activity.lifecycle == STARTING:
            self.activity.lifecycle = IDLE
            self.publish_state()

    def _kernel_said(self, batch: list[Message]) -> None:
        self._chronicle.publish([self._chronicle.messages.fitting(item) for item in batch])
        self.activity.touch(self._chronicle.now_ns())
        for message in batch:
            if message.channel == IOPUB:
                with suppress(RemoteProtocolError):  # a kernel may write nonsense
                    self._note_status(message)

    def _note_status(self, message: Message) -> None:
        if decode_json(message.header).get("msg_type") != "status":
            return
        parent = decode_json(message.parent_header)
        if parent.get("msg_type") in _CONTROL_TYPES:
            return  # says nothing about what the kernel runs
        if parent.get("msg_type") == "execute_request":
            self._last_cell = bytes(message.parent_header)
        before = self.activity.execution_state
        state = str(decode_json(message.content).get("execution_state"))
        self.activity.status(state, str(parent.get("msg_id")))
        if state in (BUSY, IDLE):
            self._become_ready()
        if self.activity.execution_state != before:
            self._on_state()

    # --- interrupt -------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt what the kernel runs.

        Raises:
            SessionError: the kernel is dead.
        """
        if self.is_dead:
            raise SessionError(f"the kernel is dead: {self.reason}.", hint="Restart it.")
        if self.channels is None or not self.channels.is_open:
            return  # nothing runs yet, and an interpreter that is still starting would die
        if self._spec.interrupt_mode == "message":
            self.channels.ask(CONTROL, "interrupt_request", {})
        else:
            self.process.signal(signal.SIGINT)

    # --- death -----------------------------------------------------------------------------------

    def _process_ended(self, facts: ExitFacts) -> None:
        self._last_facts = facts
        if not self._is_end_expected:
            self._burial = asyncio.create_task(self._bury(facts))

    async def _bury(self, facts: ExitFacts) -> None:
        """The kernel process ended on its own: answer everything with the cause."""
        async with self._lifecycle:
            log.warning("kernel epoch %d: %s", self._chronicle.epoch, facts.reason)
            await self._drain_channels()
            self._become_dead(facts)

    def _become_dead(self, facts: ExitFacts) -> None:
        self.reason = facts.reason
        self.activity.enter(DEAD)
        cut_off_at = self._chronicle.first_of_interest()
        self._exit = {**self._exit_facts(facts, is_expected=False), "cut_off_at": cut_off_at}
        self.desk.kernel_died(self.death())
        self._chronicle.exited(self._exit)
        self.publish_state()

    def death(self, words: str = "{}.") -> Cause:
        """Why a dead kernel does not answer; ``words`` with a place for the reason."""
        exit_facts = self._exit or {}
        sentence = words.format(self.reason)
        return Cause(
            "KernelDied", sentence, self.last_stderr, reason=str(exit_facts.get("cause", ""))
        )

    def _exit_facts(self, facts: ExitFacts, *, is_expected: bool) -> dict[str, Any]:
        last_stderr = self.process.tail.last_lines()
        return {**facts._asdict(), "last_stderr": last_stderr, "expected": is_expected}

    def take_over(self) -> None:
        """Serve what a dead host has left: no kernel, and an answer to everything unfinished."""
        self._is_end_expected = True
        known = self._chronicle.last_exit
        if known is None:
            self._become_dead(ExitFacts(None, None, HOST_DIED, HOST))
            return
        self._exit = dict(known)
        self.reason = str(known.get("reason", HOST_DIED))
        self.activity.enter(DEAD)
        self.desk.kernel_died(self.death())
        self.publish_state()

    async def _drain_channels(self) -> None:
        """Read what the kernel said last (its sockets hold it after its end), then close."""
        channels = self.channels
        if channels is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DRAIN_LIMIT_S
        seen = -1
        while seen != channels.received and loop.time() < deadline:
            seen = channels.received
            await asyncio.sleep(_QUIET_S)
        channels.close()
        self.channels = None

    # --- restart and shutdown --------------------------------------------------------------------

    async def restart(self, request: Request | None = None) -> None:
        """Replace the kernel process: next epoch, same journal. Restarts at once are one.

        Raises:
            SessionError: the kernel was shut down, or the new process could not be started.
        """
        if self._restarting is None:
            self._restarting = asyncio.create_task(self._restart(request))
            self._restarting.add_done_callback(self._restart_done)
        await asyncio.shield(self._restarting)

    def _restart_done(self, task: asyncio.Task[None]) -> None:
        self._restarting = None
        if not task.cancelled():
            task.exception()  # whoever asked has got it

    async def _restart(self, request: Request | None) -> None:
        async with self._lifecycle:
            if self.ended.is_set():
                raise SessionError("the kernel was shut down; it cannot be restarted.")
            self.reason = "restart was asked for"
            was_dead = self.is_dead
            self._is_end_expected = True
            self.activity.enter(RESTARTING)
            self.publish_state()
            if not was_dead:
                await self._stop_kernel(request, is_restart=True)
                cause = Cause("KernelRestarted", "the kernel was restarted.", in_output=False)
                self.desk.kernel_stopped(cause)
            self.begin_epoch(self._new_connection())
            self.desk.answer_shutdown(request, is_restart=True)
            await self.process.spawn()
            if self.process.pid is None:
                raise SessionError(f"the kernel did not restart: {self._last_facts.reason}.")

    def _new_connection(self) -> ConnectionInfo:
        try:
            return self._spec.connection(self._chronicle.epoch + 1)
        except OSError as exc:
            reason = f"the kernel's connection file cannot be written: {exc.strerror}"
            self._become_dead(ExitFacts.not_started(reason))
            raise SessionError(f"the kernel did not restart: {reason}.", retryable=True) from exc

    async def shutdown(self, request: Request | None = None, *, because: str = "") -> None:
        """End the kernel for good, tell everybody, and let the host leave. Idempotent.

        Args:
            request: The client's message that asked for it.
            because: Why, where nobody has asked.
        """
        async with self._lifecycle:
            if self.ended.is_set():
                return
            was_dead = self.is_dead
            self._is_end_expected = True
            if not was_dead:
                await self._stop_kernel(request, is_restart=False)
            self.activity.enter(DEAD)
            self.reason, self.ended_because = ENDED, because
            self.ended.set()
            why = f": {because}" if because else ""
            self.desk.kernel_stopped(
                Cause("KernelEnded", f"the kernel was shut down{why}.", in_output=False)
            )
            self.desk.answer_shutdown(request, is_restart=False)
            self._chronicle.notice("kernel_ended", reason=because or "shutdown was asked for")
            self._on_state()

    async def _stop_kernel(self, request: Request | None, *, is_restart: bool) -> None:
        """End the kernel process, gently where it listens, and note how it ended.

        Raises:
            SessionError: it cannot be killed.
        """
        if self.process.pid is not None:
            if self.channels is not None and self.channels.is_open:
                await self._ask_to_end(self.channels, request, is_restart=is_restart)
            self.process.kill()
            if not await self.process.wait_gone(KILL_S):
                self._is_end_expected = False
                raise SessionError(
                    f"the kernel process {self.process.pid} is still there {KILL_S:.0f} s after "
                    "it was killed; it hangs inside the system."
                )
        await self._drain_channels()
        self._exit = self._exit_facts(self._last_facts, is_expected=True)
        self._chronicle.exited(self._exit)

    async def _ask_to_end(
        self, channels: KernelChannels, request: Request | None, *, is_restart: bool
    ) -> None:
        """Interrupt what runs, ask for the end, then SIGTERM; returns when it is gone or late."""
        if self.activity.execution_state == BUSY or self.desk.is_waiting_for_kernel(SHELL):
            self.interrupt()
        if request is not None:
            channels.send(request.message)
        else:
            channels.ask(CONTROL, "shutdown_request", {"restart": is_restart})
        if not await self.process.wait_gone(TERMINATE_AFTER_S):
            self.process.signal(signal.SIGTERM)
            await self.process.wait_gone(GRACE_S - TERMINATE_AFTER_S)

    def close(self) -> None:
        """End everything that is below this host, at once."""
        for task in (self._restarting, self._burial):
            if task is not None:
                task.cancel()
        if self.channels is not None:
            self.channels.close()
        self.process.close()
        self._context.destroy(linger=0)
