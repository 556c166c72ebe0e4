"""Judges what a front end received of a cell that printed numbered lines."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypedDict

from clouditia.testing.chaos.lines import END, NumberedLines


class Verdict(TypedDict):
    """What became of a cell's output.

    Attributes:
        lost: Lines that never came.
        duplicated: Lines, and last displays, that came again, counted once per repetition.
        in_order: No line came after one with a higher number.
        reply: Exactly one reply came.
        idle: Exactly one idle came.
        state: The last display and the state of the comm are those of the end of the cell; true
            where the cell has none.
    """

    lost: int
    duplicated: int
    in_order: bool
    reply: bool
    idle: bool
    state: bool


#: The verdict on a cell of which nothing was lost and nothing came twice.
HEALTHY: Verdict = {
    "lost": 0,
    "duplicated": 0,
    "in_order": True,
    "reply": True,
    "idle": True,
    "state": True,
}


class LineOracle:
    """Counts the output of one :class:`NumberedLines` cell.

    Feed it every Jupyter message that a client receives for the cell (:meth:`feed`), or what a
    notebook file keeps of it (:meth:`feed_output`), then compare :meth:`verdict` with
    :data:`HEALTHY`.

    Args:
        lines: The cell, or the number of lines of a plain one.
    """

    _LINE = re.compile(r"^#(\d+)$", re.MULTILINE)

    def __init__(self, lines: NumberedLines | int) -> None:
        self.lines = NumberedLines(lines) if isinstance(lines, int) else lines
        self.count = self.lines.count
        self.replies: list[dict[str, Any]] = []
        self.idles = 0
        self.displays = 0
        self._text: list[str] = []
        self._states: dict[str, object] = {}

    @staticmethod
    def code(count: int, *, every_s: float = 0.0) -> str:
        """Source of a cell that prints the lines, one every ``every_s`` seconds."""
        return NumberedLines(count, every_s=every_s).code

    # --- what came -------------------------------------------------------------------------------

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take one message (as ``jupyter_client`` returns it) of the cell."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "execute_reply":
            self.replies.append(content)
        elif kind == "status" and content["execution_state"] == "idle":
            self.idles += 1
        elif kind in ("comm_open", "comm_msg"):
            self._feed_comm(content)
        else:
            self.feed_output({"output_type": kind, **content})

    def feed_output(self, output: Mapping[str, Any]) -> None:
        """Take one output as notebook files keep it."""
        kind = output["output_type"]
        if kind == "stream" and output["name"] == "stdout":
            self._text.append("".join(output["text"]))
        elif kind == "display_data":
            shown = "".join(output["data"].get("text/plain", ""))
            self.displays += shown == f"{END} {self.count}"

    def feed_text(self, text: str) -> None:
        """Take printed text, for example from a page."""
        self._text.append(text)

    def _feed_comm(self, content: Mapping[str, Any]) -> None:
        state = content["data"].get("state")
        if isinstance(state, dict) and "value" in state:
            self._states[content["comm_id"]] = state["value"]

    # --- what that means -------------------------------------------------------------------------

    @property
    def numbers(self) -> list[int]:
        """The numbers in the order in which their lines came."""
        return [int(number) for number in self._LINE.findall("".join(self._text))]

    @property
    def lost(self) -> int:
        """How many of the lines never came."""
        return len(set(range(self.count)) - set(self.numbers))

    @property
    def duplicated(self) -> int:
        """What came more than once, counted once per repetition."""
        lines = sum(times - 1 for times in Counter(self.numbers).values())
        return lines + max(0, self.displays - 1)

    @property
    def in_order(self) -> bool:
        """Whether no line came after one with a higher number."""
        return all(a <= b for a, b in itertools.pairwise(self.numbers))

    @property
    def reply(self) -> bool:
        """Whether exactly one reply came."""
        return len(self.replies) == 1

    @property
    def idle(self) -> bool:
        """Whether exactly one idle came."""
        return self.idles == 1

    @property
    def state(self) -> bool:
        """Whether the last display and the comm say that all lines were printed."""
        if self.lines.display and not self.displays:
            return False
        return not self.lines.state or self.count in self._states.values()

    @property
    def is_done(self) -> bool:
        """Whether reply and idle were both seen, which is when a request is complete."""
        return bool(self.replies) and self.idles > 0

    def verdict(self) -> Verdict:
        """All of it, to compare with :data:`HEALTHY`."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "in_order": self.in_order,
            "reply": self.reply,
            "idle": self.idle,
            "state": self.state,
        }

    def __str__(self) -> str:
        """The verdict in words."""
        words = [f"{self.lost} of {self.count} lost", f"{self.duplicated} duplicated"]
        words.append("in order" if self.in_order else "not in order")
        for name, is_there in (("reply", self.reply), ("idle", self.idle), ("state", self.state)):
            words.append(name if is_there else f"no {name}")
        return ", ".join(words)
