"""Rewriting a closed segment without what retention drops; the old one stays until it is whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from clouditia.protocol.journal import encode_record, frame_bytes
from clouditia.protocol.journal_index import SegmentIndex
from clouditia.protocol.journal_retention import Compact, compact_records
from clouditia.protocol.journal_salvage import SalvageReader, with_markers
from clouditia_gateway.host.segment_file import SegmentFile

log = logging.getLogger("clouditia.host")


def rewrite_segment(path: Path, job: Compact, new_path: Path) -> SegmentIndex:
    """Write the compacted form of the segment ``path`` to ``new_path``; returns its index.

    Damage that was done to the segment meanwhile becomes an omission; what is good stays.

    Raises:
        OSError: it cannot be read or written; ``new_path`` is gone then.
    """
    index = SegmentIndex(job.segment)
    new_path.unlink(missing_ok=True)
    source, target = SegmentFile(path), SegmentFile(new_path)
    try:
        reader = SalvageReader(source.map())
        records = with_markers(frame.record for frame in reader)
        for record in compact_records(records, job.level):
            frame = encode_record(record)
            offset = target.size
            target.append(frame)
            index.add(record, offset, frame_bytes(frame))
        target.sync()
        tell_damage(job.segment, reader)
    except OSError:
        new_path.unlink(missing_ok=True)
        raise
    finally:
        source.close()
        target.close()
    return index


def tell_damage(segment: int, reader: SalvageReader) -> None:
    """One line in the log for each place that could not be read."""
    for damage in reader.damages:
        log.warning(
            "journal segment %d: %d bytes at %d are left out: %s",
            segment, damage.length, damage.offset, damage.reason,
        )  # fmt: skip


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` outlast a power cut; where that is not possible, go on."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        log.info("the folder of the journal cannot be synced: %s", exc)
    finally:
        os.close(descriptor)
