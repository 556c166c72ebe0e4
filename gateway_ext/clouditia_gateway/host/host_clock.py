"""The clock of a kernel's records: the wall clock as it once was, and steady time since.

A corrected clock must not look like age: what was printed a minute ago would be a day old, and
retention would drop it. A host that takes a dead one's place goes on with that one's reading, as
long as the machine was not restarted: steady time means the same to all its processes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from clouditia_gateway.host import proc


class HostClock:
    """Nanoseconds since 1970 that never jump.

    Args:
        offset_ns: What to add to steady time.
    """

    def __init__(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns

    @classmethod
    def for_directory(cls, host_file: Path) -> HostClock:
        """Go on with the clock of the host that served before, or read the wall clock."""
        try:
            fields = json.loads(host_file.read_bytes())
            if fields["boot_id"] and fields["boot_id"] == proc.boot_id():
                return cls(int(fields["clock_offset_ns"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the first host here, or one of an older version
        return cls(time.time_ns() - time.monotonic_ns())

    def now_ns(self) -> int:
        """The time."""
        return self.offset_ns + time.monotonic_ns()
