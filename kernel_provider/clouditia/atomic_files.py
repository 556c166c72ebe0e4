"""Files that are there whole or not at all, whatever happens while they are written.

The new content goes to a file beside the final one, to the disk, and then takes the final name in
one step. A process that is killed halfway, a full disk or a power cut leave the old file, and at
worst one with a name that begins with a dot.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_atomically", "write_private"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_NEW |= getattr(os, "O_BINARY", 0)
PRIVATE, PUBLIC = 0o600, 0o666


def write_private(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by a file that only its owner may read.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was.
    """
    write_atomically(path, content, mode=PRIVATE)


def write_atomically(path: Path, content: str | bytes, *, mode: int = PUBLIC) -> None:
    """Replace ``path``; a new file gets ``mode`` (less the umask), an old one keeps its own.

    A link is followed, so that it stays a link.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, _NEW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if mode == PUBLIC and path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut; where the system cannot, it still is there now."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # not every file system can
    finally:
        os.close(descriptor)
