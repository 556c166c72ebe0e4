"""What the bridge tells the person: on stderr, which front ends show or log, and in cells."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from clouditia.bridge.kernel import KernelChannels

__all__ = ["OthersNotice", "WaitNotice", "tell"]

#: A cell that waits for the network says so early, because its user wonders; a kernel may take a
#: while to start; and stderr, which is often a log, hears only of what lasts.
_AWAY_IN_CELL_AFTER_S = 2.0
_STARTING_IN_CELL_AFTER_S = 10.0
_ON_STDERR_AFTER_S = 30.0
_LOOK_EVERY_S = 1.0
#: The cells of others are short in most cases.
_OTHERS_AFTER_S = 3.0

STARTING = "is still starting the kernel; what was run meanwhile will follow"
AWAY = (
    "cannot be reached; the kernel is not affected and its output will follow. "
    "Trying again until it is back"
)


def tell(text: str) -> None:
    """Write to stderr; a closed one is no reason to end."""
    try:
        sys.stderr.write(f"clouditia-kernel: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


class WaitNotice:
    """Says once per wait that it is long, where people look, and once that it is over.

    Args:
        loop: Whose clock counts.
        gateway: How the gateway is called in the lines.
        tell_cell: Writes into the cell that waits; False if none does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gateway: str,
        tell_cell: Callable[[str], bool],
    ) -> None:
        self._loop = loop
        self._gateway = gateway
        self._tell_cell = tell_cell
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._why = STARTING
        self._is_told = {"cell": False, "stderr": False}

    def begin(self, why: str) -> None:
        """From now on something is waited for; a wait under way only changes its reason."""
        self._why = why
        if self._timer is None:
            self._since = self._loop.time()
            delay_s = _AWAY_IN_CELL_AFTER_S if why == AWAY else _STARTING_IN_CELL_AFTER_S
            self._timer = self._loop.call_later(delay_s, self._look)

    def end(self) -> None:
        """What was waited for is there."""
        word = "back" if self._why == AWAY else "there"
        text = f"{self._gateway} is {word} after {self._loop.time() - self._since:.0f} s."
        if self._is_told["stderr"]:
            tell(text)
        if self._is_told["cell"]:
            self._tell_cell(text)
        self.cancel()

    def cancel(self) -> None:
        """Say nothing more about this wait."""
        self._is_told = dict.fromkeys(self._is_told, False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Tell whoever waits now; a cell may be run only later in the outage."""
        waited_s = self._loop.time() - self._since
        text = f"{self._gateway} {self._why} ({waited_s:.0f} s so far)."
        if not self._is_told["cell"]:
            self._is_told["cell"] = self._tell_cell(text)
        if not self._is_told["stderr"] and waited_s >= _ON_STDERR_AFTER_S:
            self._is_told["stderr"] = True
            tell(text)
        if not all(self._is_told.values()):
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)


class OthersNotice:
    """Says in a cell that it waits for a cell of another front end, which is not shown here.

    Args:
        loop: For the timer.
        channels: Knows who waits for whom.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, channels: KernelChannels) -> None:
        self._loop = loop
        self._channels = channels
        self._timer: asyncio.TimerHandle | None = None
        self._is_told = False

    def asked(self) -> None:
        """The front end has asked for something."""
        if not self._channels.waits_for_others:
            self._is_told = False
        elif self._timer is None and not self._is_told:
            self._timer = self._loop.call_later(_OTHERS_AFTER_S, self._look)

    def cancel(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._channels.waits_for_others:
            self._is_told = self._channels.tell_waiting(
                "this cell waits for one that was started elsewhere, or before. "
                f"To see that one: clouditia attach {self._channels.kernel_id[:8]}"
            )
