"""One journal segment on disk: all-or-nothing appends, positional reads."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from clouditia.protocol.journal import frame_bytes
from clouditia.protocol.messages import Buffer

_IOV_MAX = 1024
#: Frames from this size on are read as a view into the page cache instead of a copy.
_MAP_FROM_BYTES = 256 * 1024


class SegmentFile:
    """An open segment; ``size`` is where the next frame goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.size = os.fstat(self._descriptor).st_size

    def append(self, parts: Sequence[Buffer]) -> None:
        """Write ``parts`` at the end, all of them or nothing.

        Raises:
            OSError: the disk is full or broken; the file is as it was before.
        """
        total = frame_bytes(parts)
        try:
            self._write(parts)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += total

    def _write(self, parts: Sequence[Buffer]) -> None:
        waiting = [memoryview(part).cast("B") for part in parts if len(part)]
        place = 0
        while place < len(waiting):
            group = waiting[place : place + _IOV_MAX]
            written = os.writev(self._descriptor, group)
            for view in group:
                if written < view.nbytes:
                    waiting[place] = view[written:]
                    break
                written -= view.nbytes
                place += 1

    def cut(self, size: int) -> None:
        """Drop what follows the last good frame."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def read(self, offset: int, length: int) -> Buffer:
        """The bytes of one frame.

        Raises:
            OSError: they cannot be read, or are not all there.
        """
        if length >= _MAP_FROM_BYTES:
            start = offset - offset % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(
                self._descriptor, offset - start + length, access=mmap.ACCESS_READ, offset=start
            )
            return memoryview(mapped)[offset - start :]
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise OSError(f"{self.path.name} ends at {offset + len(data)}")
        return data

    def map(self) -> Buffer:
        """The whole segment; a view, not a copy."""
        if not self.size:
            return b""
        return memoryview(mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ))

    def sync(self) -> None:
        """Return when the disk has everything.

        Raises:
            OSError: it has not; what of it is there is not known.
        """
        os.fsync(self._descriptor)

    def duplicate(self) -> int:
        """Another descriptor of this file, for a thread that syncs it; close it after use."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Close; views that were handed out stay good."""
        os.close(self._descriptor)
