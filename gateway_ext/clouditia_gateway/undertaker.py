"""Ending kernels for good: ask the host, make sure that it is gone, remove what it left.

A tombstone in the database comes first, so a shutdown that was accepted is carried out whatever
happens to the gateway or to the way to the host.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

from clouditia.errors import ClouditiaError
from clouditia_gateway.engines.base import HostHealth
from clouditia_gateway.errors import StorageError
from clouditia_gateway.launcher import ref_of

if TYPE_CHECKING:
    from clouditia_gateway.channels.hub import HostHub
    from clouditia_gateway.engines.base import Engine
    from clouditia_gateway.records import KernelRecord
    from clouditia_gateway.store import Store

log = logging.getLogger("clouditia.gateway")

CONNECT_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 10.0
GONE_TIMEOUT_S = 5.0
RETRY_S = 30.0
_POLL_S = 0.02


class Undertaker:
    """Carries out tombstones."""

    def __init__(self, store: Store, hub: HostHub, engine: Engine) -> None:
        self._store = store
        self._hub = hub
        self._engine = engine

    async def bury(self, kernel_id: str) -> None:
        """End the host of a kernel with a tombstone and forget the kernel; repeated until done."""
        while True:
            record = self._store.kernel(kernel_id)
            if record is None:
                return
            if await self._is_gone(record) and await self._forget(record):
                break
            await asyncio.sleep(RETRY_S)
        self._hub.forget(kernel_id)
        log.info("kernel %s has ended", kernel_id)

    async def _forget(self, record: KernelRecord) -> bool:
        """Remove what a host that is gone has left; returns success."""
        await self._engine.stop(ref_of(record))
        await asyncio.to_thread(shutil.rmtree, record.directory, ignore_errors=True)
        try:
            self._store.remove_kernel(record.kernel_id)
        except StorageError as exc:
            log.warning("kernel %s is forgotten later: %s", record.kernel_id, exc)
            return False
        return True

    async def _is_gone(self, record: KernelRecord) -> bool:
        """Ask the host to end, then see; a local host that does not answer is killed."""
        if await self._health(record) is not HostHealth.DEAD:
            # A host that ends by itself, as after a client's shutdown, does not dial in any more.
            asking = asyncio.create_task(self._ask(record))
            try:
                if await self._wait_gone(record, asking):
                    return True
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            await self._engine.stop(ref_of(record))
        return await self._health(record) is HostHealth.DEAD

    async def _ask(self, record: KernelRecord) -> None:
        try:
            await self._hub.wait_connected(record.kernel_id, CONNECT_TIMEOUT_S)
            await self._hub.request(record.kernel_id, "shutdown", {}, timeout_s=SHUTDOWN_TIMEOUT_S)
        except ClouditiaError as exc:
            log.info("kernel %s: its host did not confirm the shutdown: %s", record.kernel_id, exc)

    async def _wait_gone(self, record: KernelRecord, asking: asyncio.Task[None]) -> bool:
        """Whether the host ends within a while after it was asked, or before that."""
        now = asyncio.get_running_loop().time
        deadline = now() + GONE_TIMEOUT_S
        while await self._health(record) is not HostHealth.DEAD:
            if not asking.done():
                deadline = now() + GONE_TIMEOUT_S
            elif now() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _health(self, record: KernelRecord) -> HostHealth:
        return (await self._engine.status(ref_of(record))).health
