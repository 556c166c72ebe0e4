"""The conductor of a kernel host: puts the parts together and decides when the process ends."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
from contextlib import suppress
from typing import Any

from clouditia.atomic_files import write_private
from clouditia.errors import ClouditiaError
from clouditia.protocol.journal import Record, down_record
from clouditia.protocol.journal_retention import Retention
from clouditia_gateway.host import logs, proc
from clouditia_gateway.host.chronicle import Chronicle
from clouditia_gateway.host.clients import ClientLinks
from clouditia_gateway.host.connection_file import remove_sockets
from clouditia_gateway.host.control import Dismissed, GatewayControl
from clouditia_gateway.host.host_clock import HostClock
from clouditia_gateway.host.journal_files import JournalFiles
from clouditia_gateway.host.journal_upkeep import JournalUpkeep
from clouditia_gateway.host.launch import Launched
from clouditia_gateway.host.notices import disk_recovery, disk_trouble
from clouditia_gateway.host.retirement import Retirement
from clouditia_gateway.host.supervisor import Supervisor
from clouditia_gateway.host.taken_sockets import TakenSockets

log = logging.getLogger("clouditia.host")

LOOK_EVERY_S = 2.0
#: How long clients may take to get the last messages of a kernel that was shut down.
LINGER_S = 5.0
_REPORT_TIMEOUT_S = 1.0
#: How long a status, or a reply before its idle, waits for what it can travel with.
_TOGETHER_S = 0.002


def serve(launched: Launched) -> int:
    """Run the host to its end; returns the exit code of the process."""
    logs.configure(launched.spec.directory / "host.log")
    log.info("host of kernel %s, fence %d", launched.spec.kernel_id, launched.spec.fence)
    try:
        asyncio.run(_run(launched))
    except ClouditiaError as exc:
        log.error("the host ends: %s", exc)  # noqa: TRY400  # the sentence says it all
        return exc.exit_code
    return 0


async def _run(launched: Launched) -> None:
    await KernelHost(launched).run()


class KernelHost:
    """All parts of the host of one kernel."""

    def __init__(self, launched: Launched) -> None:
        spec = self._spec = launched.spec
        self._launched = launched
        self._clock = HostClock.for_directory(spec.host_file)
        retention = Retention(spec.retention.max_bytes, spec.retention.max_age_s)
        self._journal = JournalFiles(spec.directory / "journal", retention, self._clock.now_ns)
        self._journal.on_trouble = self._journal_failed
        self._journal.load(proc.boot_id())
        self._telling: asyncio.TimerHandle | None = None
        self._chronicle = Chronicle(self._journal, self._clock.now_ns, self._published)
        self._supervisor = Supervisor(launched, self._chronicle, on_state=self._state_changed)
        self._clients = ClientLinks(
            spec.kernel_id,
            self._journal,
            self._supervisor.desk,
            state=self._state,
            on_change=self._clients_changed,
            starts_at=self._chronicle.first_of_interest,
        )
        self._taken = TakenSockets(spec.directory, self._clients.serve)
        self._control = GatewayControl(
            spec,
            state=self._state,
            on_request=self._supervisor.desk.run,
            on_data=self._clients.serve,
            taken=self._taken,
        )
        self._retirement = Retirement(
            self._supervisor,
            own_ttl_s=spec.detached_ttl_s,
            policy=lambda: self._control.policy,
            clients=lambda: self._clients.online,
            now_ns=self._clock.now_ns,
            on_state=self._control.state_changed,
        )
        self._upkeep = JournalUpkeep(
            self._journal,
            retention,
            now_ns=self._clock.now_ns,
            recovered=self._recovered,
            on_recovered=self._journal_recovered,
        )
        self._online = 0
        self._written_pid: int | None = None
        self._progress = asyncio.Event()  # a client came, went or acknowledged something
        self._signalled: asyncio.Task[None] | None = None
        self._directory_inode = spec.directory.stat().st_ino

    async def run(self) -> None:
        """Serve until the kernel was shut down, the directory is gone, or nobody wants us."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if self._launched.connection is not None:
            self._supervisor.begin_epoch(self._launched.connection)
        else:
            self._supervisor.take_over()
        self._write_host_file()
        self._taken.listen()
        gc.freeze()  # what was imported stays; the collector need not look at it again
        control = asyncio.create_task(self._control.run())
        tasks = [
            control,
            asyncio.create_task(self._watch_surroundings()),
            asyncio.create_task(self._leave_after_shutdown()),
            asyncio.create_task(self._upkeep.run()),
            asyncio.create_task(self._retirement.run()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(Dismissed):
                    task.result()
                    log.info("the host ends")
            if control in done:
                log.warning("the gateway dismissed this host: %s", control.exception())
        finally:
            await self._close(tasks)

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        self._control.close()
        self._taken.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._supervisor.close()
        self._journal.close()
        remove_sockets(self._spec.connection_file)

    # --- state -----------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            **self._supervisor.state(),
            "connections": self._clients.online,
            **self._retirement.state(),
        }

    def _state_changed(self) -> None:
        self._control.state_changed()
        if self._supervisor.process.pid != self._written_pid:
            self._write_host_file()

    def _published(self, may_wait: bool) -> None:  # noqa: FBT001  (a callback's one fact)
        """Tell the clients; what shows nothing by itself goes with what follows it."""
        if not may_wait:
            self._tell_clients()
        elif self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(_TOGETHER_S, self._tell_clients)

    def _tell_clients(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._clients.wake()

    def _clients_changed(self) -> None:
        self._progress.set()
        if self._clients.online != self._online:
            self._online = self._clients.online
            self._control.state_changed()

    def _write_host_file(self) -> None:
        process = self._supervisor.process
        self._written_pid = process.pid
        fields = {
            "pid": os.getpid(),
            "start_time": proc.start_time(os.getpid()),
            "kernel_pid": process.pid,
            "kernel_start_time": process.start_time or None,
            "kernel_pgid": process.pid,
            "fence": self._spec.fence,
            "boot_id": proc.boot_id(),
            "clock_offset_ns": self._clock.offset_ns,
        }
        try:
            write_private(self._spec.host_file, json.dumps(fields))
        except OSError as exc:
            log.warning("host.json cannot be written: %s", exc)

    # --- ends ------------------------------------------------------------------------------------

    def _terminate(self) -> None:
        log.info("SIGTERM: the kernel is shut down")
        self._signalled = asyncio.create_task(self._supervisor.shutdown())

    async def _leave_after_shutdown(self) -> None:
        """Return when the kernel was shut down and everybody has been told, or was too slow."""
        await self._supervisor.ended.wait()
        self._control.state_changed()
        await asyncio.sleep(0)  # what the end leads to is written in the same turn of the loop
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._clients.are_all_done:
                    self._progress.clear()
                    await self._progress.wait()
        await self._control.flush(_REPORT_TIMEOUT_S)

    async def _watch_surroundings(self) -> None:
        """Return when the kernel's directory is gone; note what the system counts meanwhile."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._supervisor.process.look()
            try:
                if self._spec.directory.stat().st_ino == self._directory_inode:
                    continue
            except OSError:
                pass
            log.warning("the kernel's directory is gone")
            return

    # --- disk trouble ----------------------------------------------------------------------------

    def _journal_failed(self, error: OSError) -> None:
        log.warning("the journal cannot be written, messages stay in memory: %s", error)
        # Later: this is the middle of a write, and what is said now is to be written, too.
        asyncio.get_running_loop().call_soon(self._tell_full, error.strerror or str(error))

    def _tell_full(self, why: str) -> None:
        self._tell_disk_state(f"the journal cannot be written: {why}")
        self._supervisor.desk.tell_running_cell(disk_trouble(why))

    def _journal_recovered(self, messages: int, size_bytes: int) -> None:
        self._supervisor.desk.tell_running_cell(disk_recovery(messages, size_bytes))

    def _tell_disk_state(self, reason: str) -> None:
        state = self._supervisor.activity.execution_state
        epoch = self._chronicle.epoch
        self._chronicle.notice("kernel_state", epoch=epoch, execution_state=state, reason=reason)

    def _recovered(self) -> Record:
        """The first record after the disk takes writes again."""
        state = self._supervisor.activity.execution_state
        message = self._chronicle.messages.notice(
            "kernel_state",
            epoch=self._chronicle.epoch,
            execution_state=state,
            reason="the journal can be written again",
        )
        return down_record(
            message,
            seq=self._journal.next_seq,
            epoch=self._chronicle.epoch,
            time_ns=self._clock.now_ns(),
        )
