"""The kernel process as the host sees it: through its keeper, and the tail of what it printed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clouditia_gateway.host import proc
from clouditia_gateway.host.exit_facts import SIGNAL, ExitFacts
from clouditia_gateway.host.keeper import (
    KILL_TIMEOUT_S,
    KeeperHandles,
    KernelCommand,
    fork_keeper,
)
from clouditia_gateway.host.memory_watch import MemoryWatch

log = logging.getLogger("clouditia.host")

_TAIL_BYTES = 64 * 1024
_LAST_LINES = 20
_LAST_CHARACTERS = 4000
_KEEPER_LOST = "its keeper process was killed"


class OutputTail:
    """The last bytes that the kernel wrote to stdout and stderr."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append, and forget the oldest."""
        self._data += data
        if len(self._data) > 2 * _TAIL_BYTES:
            del self._data[:-_TAIL_BYTES]

    def clear(self) -> None:
        """A new kernel process begins."""
        self._data.clear()

    def last_lines(self) -> str:
        """The last lines, decoded; at most 20 lines and 4000 characters."""
        lines = self._data[-_TAIL_BYTES:].decode("utf-8", "replace").rstrip().splitlines()
        return "\n".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:]


class KernelProcess:
    """Starts, signals and watches the kernel through its keeper.

    Args:
        command: For another keeper, should the first be lost.
        keeper: The keeper that the fast start made.
        on_started: Called with nothing once :attr:`pid` is known.
        on_ended: Called once for each process that was asked for: it ended, or never began.
    """

    def __init__(
        self,
        command: KernelCommand,
        keeper: KeeperHandles,
        *,
        on_started: Callable[[], None],
        on_ended: Callable[[ExitFacts], None],
    ) -> None:
        self.pid: int | None = None
        self.start_time = 0
        self.tail = OutputTail()
        self._command = command
        self._on_started, self._on_ended = on_started, on_ended
        self._keeper: KeeperHandles | None = None
        self._events = b""
        self._memory = MemoryWatch()
        self._settled = asyncio.Event()  # the last spawn has succeeded or failed
        self._is_gone = asyncio.Event()  # no kernel process is there or on its way
        self._attach(keeper)

    def _attach(self, keeper: KeeperHandles) -> None:
        self._keeper = keeper
        self._events = b""
        loop = asyncio.get_running_loop()
        loop.add_reader(keeper.events, self._read_events, keeper)
        loop.add_reader(keeper.output, self._read_output, keeper)

    # --- commands --------------------------------------------------------------------------------

    async def spawn(self) -> None:
        """Start a kernel process; returns when it runs, or has failed to."""
        self.tail.clear()
        self._settled.clear()
        self._is_gone.clear()
        if self._keeper is None:
            self._attach(fork_keeper(self._command, spawn_now=True))
        else:
            self._tell("spawn")
        await self._settled.wait()

    def look(self) -> None:
        """Note what the system counts now, to be compared when the kernel dies; every 2 s or so."""
        if self.pid is not None:
            self._memory.look(self.pid)

    def signal(self, number: int) -> None:
        """Signal the kernel's process group."""
        self._tell(f"signal {int(number)}")

    def kill(self) -> None:
        """Kill the kernel and everything that it has started."""
        self._tell("kill")

    async def wait_gone(self, timeout: float) -> bool:
        """Whether the kernel process is gone within ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._is_gone.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Let go of the keeper: it kills everything below itself and leaves."""
        keeper = self._keeper
        if keeper is None:
            return
        self._detach(keeper)
        with suppress(ChildProcessError):
            os.waitpid(keeper.pid, 0)
        self._end_adopted()

    def _tell(self, command: str) -> None:
        if self._keeper is None:
            return
        with suppress(BrokenPipeError):  # the keeper is lost; its events say so as well
            os.write(self._keeper.commands, command.encode() + b"\n")

    # --- events ----------------------------------------------------------------------------------

    def _read_output(self, keeper: KeeperHandles) -> None:
        try:
            data = os.read(keeper.output, 65536)
        except BlockingIOError:
            return
        if data:
            self.tail.add(data)
        else:
            asyncio.get_running_loop().remove_reader(keeper.output)

    def _read_events(self, keeper: KeeperHandles) -> None:
        try:
            data = os.read(keeper.events, 65536)
        except BlockingIOError:
            return
        if not data:
            self._keeper_lost(keeper)
            return
        *lines, self._events = (self._events + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "spawned":
            self.pid, self.start_time = event["pid"], event["start_time"]
            self._settled.set()
            self.look()
            self._on_started()
        elif name == "failed":
            self._ended(ExitFacts.not_started(event["reason"]))
        elif name == "exited" and event["pid"] == self.pid:
            self._ended(self._facts_of(event["exit_code"]))
        elif name == "stuck":
            log.warning("processes %s of the kernel do not die", event["pids"])

    def _facts_of(self, exit_code: int) -> ExitFacts:
        memory = self._memory.after_sigkill()
        return ExitFacts.from_exit_code(exit_code, memory, is_counted=self._memory.is_counting)

    def _ended(self, facts: ExitFacts) -> None:
        self.pid, self.start_time = None, 0
        self._settled.set()
        self._is_gone.set()
        self._on_ended(facts)

    def _keeper_lost(self, keeper: KeeperHandles) -> None:
        """The keeper was killed; so was the kernel by the system, and we do the rest."""
        log.error("the keeper of the kernel was killed")
        self._detach(keeper)
        self._end_adopted()
        if not self._is_gone.is_set():
            self._ended(
                ExitFacts(None, "SIGKILL", f"the kernel was killed: {_KEEPER_LOST}", SIGNAL)
            )

    def _detach(self, keeper: KeeperHandles) -> None:
        self._keeper = None
        loop = asyncio.get_running_loop()
        for descriptor in (keeper.events, keeper.output):
            loop.remove_reader(descriptor)
        for descriptor in (keeper.commands, keeper.events, keeper.output):
            os.close(descriptor)

    def _end_adopted(self) -> None:
        """Kill and collect what the system gave to us when the keeper was gone."""
        if stuck := proc.kill_descendants(KILL_TIMEOUT_S, _collect_children):
            log.warning("processes %s of the kernel do not die", stuck)


def _collect_children() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
