"""A wall clock that jumps, for one process: libfaketime, with its offset in a file."""

from __future__ import annotations

from pathlib import Path

from tests import needs

_LIBRARY = "faketime/libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


class FakeClock:
    """The clock that a process sees which is started with :meth:`environment`.

    Only the time of day is false. The clock that goes on steadily is the system's, as it would be
    if somebody had set the time.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "fake-clock"
        self._library = needs.library(*(f"{folder}/{_LIBRARY}" for folder in _FOLDERS))
        self.jump("+0")

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset: str) -> None:
        """Be wrong by so much from now on: ``+0``, ``+1h``, ``-1d``."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.replace(self._file)
