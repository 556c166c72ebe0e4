"""What a journal needs beside appends: group syncs, retention, and coming back from disk trouble.

Slow work runs in a thread; the files it touches are closed segments or duplicated descriptors.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable

from clouditia.protocol.journal import Record
from clouditia.protocol.journal_retention import Retention
from clouditia_gateway.host.journal_compaction import rewrite_segment
from clouditia_gateway.host.journal_files import JournalFiles

log = logging.getLogger("clouditia.host")

SYNC_INTERVAL_S = 0.2
RETRY_INTERVAL_S = 1.0
RETENTION_INTERVAL_S = 30.0


class JournalUpkeep:
    """Runs beside the journal for as long as the host lives.

    Args:
        journal: The journal to look after.
        retention: How much it may keep.
        now_ns: The clock of its records.
        recovered: Makes the record that says that the disk takes writes again.
        on_recovered: Called after that with how many messages were left out, and their bytes.
    """

    def __init__(
        self,
        journal: JournalFiles,
        retention: Retention,
        *,
        now_ns: Callable[[], int],
        recovered: Callable[[], Record],
        on_recovered: Callable[[int, int], None],
    ) -> None:
        self._journal = journal
        self._retention = retention
        self._now_ns = now_ns
        self._recovered = recovered
        self._on_recovered = on_recovered
        self._synced_size = 0

    async def run(self) -> None:
        """Sync, retry and compact until cancelled."""
        loop = asyncio.get_running_loop()
        next_retry = next_retention = 0.0
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            await self._sync()
            now = loop.time()
            if self._journal.overflow is not None and now >= next_retry:
                next_retry = now + RETRY_INTERVAL_S
                self._retry()
            if now >= next_retention or self._is_near_limit():
                next_retention = now + RETENTION_INTERVAL_S
                await self._compact()

    def _is_near_limit(self) -> bool:
        """Whether there is soon no room: better now, in a thread, than by who writes, at once."""
        retention = self._retention
        limit = retention.max_bytes - 2 * retention.reserve_bytes
        return self._journal.overflow is None and self._journal.index.size_bytes > limit

    def _retry(self) -> None:
        omitted = self._journal.overflow.omitted if self._journal.overflow else (0, 0)
        if self._journal.recover(self._recovered()):
            log.warning("the journal can be written to the disk again")
            self._on_recovered(*omitted)

    async def _sync(self) -> None:
        size = self._journal.index.size_bytes
        if size == self._synced_size:
            return
        descriptor = self._journal.current_descriptor()
        if descriptor is None:
            return
        try:
            await asyncio.to_thread(os.fdatasync, descriptor)
            self._synced_size = size
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOSPC):  # not every file system can sync
                log.warning("the journal cannot be synced to the disk: %s", exc)
        finally:
            os.close(descriptor)

    async def _compact(self) -> None:
        retention, segments = self._retention, self._journal.index.segments()
        for job in retention.plan(segments, self._now_ns(), 2 * retention.reserve_bytes):
            path = self._journal.path_of(job.segment)
            new_path = path.with_suffix(".new")
            try:
                rewritten = await asyncio.to_thread(rewrite_segment, path, job, new_path)
            except OSError as exc:
                log.warning("journal segment %d cannot be compacted: %s", job.segment, exc)
                return
            self._journal.replace(rewritten, new_path)
            log.info("journal segment %d was compacted", job.segment)
