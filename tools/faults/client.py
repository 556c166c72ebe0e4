"""What all clients of the fault table have in common: what came, when, and for which cell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clouditia.testing.chaos import LineOracle, NumberedLines

#: Of long texts only so much is kept, and how long they were.
_KEPT_CHARACTERS = 64


@dataclass(frozen=True)
class Came:
    """One message that arrived.

    Attributes:
        at: When, on the monotonic clock.
        cell: The cell that it answers.
        message: As ``jupyter_client`` would return it; displays are shortened.
        size: Characters of a display, or bytes of all buffers.
    """

    at: float
    cell: str
    message: dict[str, Any]
    size: int = 0


class Client:
    """One client of one kernel.

    Attributes:
        came: All messages, in order.
        closes: When its connection was seen to end.
        errors: What it told its user, and when.
    """

    def __init__(self) -> None:
        self.came: list[Came] = []
        self.closes: list[float] = []
        self.errors: list[tuple[float, str]] = []

    def execute(self, code: str) -> str:
        """Send a cell; returns its name."""
        raise NotImplementedError

    def sleep(self) -> None:
        """Stop reading."""
        raise NotImplementedError

    def wake(self) -> None:
        """Read again."""
        raise NotImplementedError

    def close(self) -> None:
        """Go away."""
        raise NotImplementedError

    # --- what came -------------------------------------------------------------------------------

    def note(self, cell: str, message: dict[str, Any]) -> None:
        """Keep a message."""
        buffers = message.pop("buffers", None) or []
        size = sum(len(each) for each in buffers)
        if message["header"]["msg_type"] == "display_data":
            text = str(message["content"]["data"].get("text/plain", ""))
            message["content"]["data"]["text/plain"] = text[:_KEPT_CHARACTERS]
            size = len(text)
        self.came.append(Came(time.monotonic(), cell, message, size))

    def of(self, cell: str, msg_type: str = "") -> list[Came]:
        """What came for a cell."""
        return [
            each
            for each in self.came
            if each.cell == cell and msg_type in ("", each.message["header"]["msg_type"])
        ]

    def judge(self, lines: NumberedLines, cell: str) -> LineOracle:
        """What came of a cell of numbered lines so far."""
        oracle = LineOracle(lines)
        for each in self.of(cell):
            oracle.feed(each.message)
        return oracle

    def is_done(self, cell: str) -> bool:
        """Whether reply and idle came, or the client told its user that it gave up."""
        return bool(self.errors) or self.judge(NumberedLines(0), cell).is_done

    def line_times(self, cell: str) -> list[float]:
        """When printed lines came; a notice on stderr is none."""
        streams = self.of(cell, "stream")
        return [each.at for each in streams if each.message["content"]["name"] == "stdout"]

    def told_at(self, since: float) -> float | None:
        """When its user could first see that something is wrong, after ``since``."""
        stderr = [
            each.at
            for each in self.came
            if each.message["header"]["msg_type"] == "stream"
            and each.message["content"]["name"] == "stderr"
        ]
        signs = [*self.closes, *stderr, *(at for at, _ in self.errors)]
        return min((at for at in signs if at >= since), default=None)

    def wait(self, predicate: Callable[[], object], timeout_s: float) -> bool:
        """Wait for something; returns whether it came true in time."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                return False
            pause(0.05)
        return True


def pause(seconds: float) -> None:
    """Let a fault last, or look again a little later."""
    threading.Event().wait(seconds)
