"""What the kernel is doing, as far as its iopub statuses tell."""

from __future__ import annotations

from datetime import UTC, datetime

from clouditia_gateway.clock import iso

STARTING, IDLE, BUSY, RESTARTING, DEAD = "starting", "idle", "busy", "restarting", "dead"


class Activity:
    """Execution state and last activity of a kernel.

    A kernel with control thread and subshells works on several requests at once; it is busy while
    any of them is not idle. Control requests do not count: they do not keep a cell from running.
    """

    def __init__(self) -> None:
        self.lifecycle = STARTING
        self._busy: set[str] = set()
        self._last_activity_ns = 0

    @property
    def execution_state(self) -> str:
        """One of the Jupyter execution states."""
        if self.lifecycle != IDLE:
            return self.lifecycle
        return BUSY if self._busy else IDLE

    @property
    def last_activity_ns(self) -> int:
        """When something was asked or said last."""
        return self._last_activity_ns

    @property
    def last_activity(self) -> str:
        """ISO 8601, UTC."""
        return iso(datetime.fromtimestamp(self._last_activity_ns / 1e9, UTC))

    def touch(self, now_ns: int) -> None:
        """Something was asked or said."""
        self._last_activity_ns = now_ns

    def enter(self, lifecycle: str) -> None:
        """The kernel process has started, is ready, is being replaced, or is gone."""
        self.lifecycle = lifecycle
        self._busy.clear()

    def status(self, execution_state: str, parent_id: str) -> None:
        """The kernel published a status for the request ``parent_id``."""
        if execution_state == BUSY:
            self._busy.add(parent_id)
        elif execution_state == IDLE:
            self._busy.discard(parent_id)
