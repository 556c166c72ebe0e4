"""What a journal needs beside appends: group syncs, retention, and coming back from disk trouble.

Slow work runs in a thread; the files it touches are closed segments or duplicated descriptors.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from clouditia.protocol.journal import Record, RecordReader, encode_record, frame_bytes
from clouditia.protocol.journal_index import SegmentIndex
from clouditia.protocol.journal_retention import Compact, Retention, compact_records
from clouditia_gateway.host.journal_files import JournalFiles
from clouditia_gateway.host.segment_file import SegmentFile

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
    """

    def __init__(
        self,
        journal: JournalFiles,
        retention: Retention,
        *,
        now_ns: Callable[[], int],
        recovered: Callable[[], Record],
    ) -> None:
        self._journal = journal
        self._retention = retention
        self._now_ns = now_ns
        self._recovered = recovered
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
            if now >= next_retention:
                next_retention = now + RETENTION_INTERVAL_S
                await self._compact()

    def _retry(self) -> None:
        if self._journal.recover(self._recovered()):
            log.warning("the journal can be written to the disk again")

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
        for job in self._retention.plan(self._journal.index.segments(), self._now_ns()):
            path = self._journal.path_of(job.segment)
            try:
                rewritten = await asyncio.to_thread(rewrite_segment, path, job)
            except OSError as exc:
                log.warning("journal segment %d cannot be compacted: %s", job.segment, exc)
                return
            self._journal.replace(rewritten, _new_path(path))
            log.info("journal segment %d was compacted", job.segment)


def _new_path(path: Path) -> Path:
    return path.with_suffix(".new")


def rewrite_segment(path: Path, job: Compact) -> SegmentIndex:
    """Write the compacted form of a closed segment beside it; returns its index."""
    index = SegmentIndex(job.segment)
    new_path = _new_path(path)
    new_path.unlink(missing_ok=True)
    source, target = SegmentFile(path), SegmentFile(new_path)
    try:
        reader = RecordReader(source.map())
        for record in compact_records((frame.record for frame in reader), job.level):
            frame = encode_record(record)
            offset = target.size
            target.append(frame)
            index.add(record, offset, frame_bytes(frame))
        os.fsync(descriptor := target.duplicate())
        os.close(descriptor)
    except OSError:
        new_path.unlink(missing_ok=True)
        raise
    finally:
        source.close()
        target.close()
    return index
