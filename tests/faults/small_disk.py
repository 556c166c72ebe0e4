"""A real disk of a few megabytes, to be filled and emptied; it takes root to mount one."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system with a file in it that takes what is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as exc:
                    assert exc.errno == errno.ENOSPC  # noqa: PT017  (anything else is a broken test)

    def free(self) -> None:
        """Give all of that back."""
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A tmpfs of that size at ``path``; skips the test where it cannot be mounted."""
    path.mkdir(exist_ok=True)
    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "small", str(path)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
