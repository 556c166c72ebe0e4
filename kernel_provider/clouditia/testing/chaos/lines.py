"""The cell whose output can be counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where the kernel keeps how far it came; there after the cell, if the kernel's state is.
KEPT = "chaos_kept"
#: Target name of the plain comm, and the text of the last display.
COMM_TARGET = "clouditia.chaos"
END = "#end"

_COMM = f"""
from comm import create_comm
chaos_state = create_comm(target_name={COMM_TARGET!r}, data={{"state": {{"value": 0}}}})
def chaos_show(value):
    chaos_state.send({{"method": "update", "state": {{"value": value}}}})
"""
_WIDGET = """
import ipywidgets
chaos_state = ipywidgets.IntText(value=0, description="lines")
display(chaos_state)
def chaos_show(value):
    chaos_state.value = value
"""


@dataclass(frozen=True)
class NumberedLines:
    """A cell that prints the lines ``#0``, ``#1``, … up to ``#count-1``.

    Attributes:
        count: How many lines.
        every_s: Seconds between two bursts; 0 prints as fast as it goes.
        burst: Lines that come together.
        display: End with a ``display_data``.
        state: Also count in the state of a comm: ``"comm"`` is a plain one and needs nothing in
            the kernel but ipykernel, ``"widget"`` a number field and needs ipywidgets there.
        state_every: Count there after every so many lines.
        until: Path of a file, on the kernel's side, for which the last line waits: as long as it
            is not there, the cell is not over, whatever the other end does meanwhile.
    """

    count: int
    every_s: float = 0.0
    burst: int = 1
    display: bool = False
    state: Literal["", "comm", "widget"] = ""
    state_every: int = 10
    until: str = ""

    @property
    def code(self) -> str:
        """Source of the cell, for a Python kernel."""
        flush = ", flush=True" if self.every_s else ""
        lines = ["import os, time", f"for i in range({self.count}):"]
        if self.until:
            is_waiting = f"i == {self.count - 1} and not os.path.exists({self.until!r})"
            lines.append(f"    while {is_waiting}: time.sleep(0.01)")
        lines.append(f"    print(f'#{{i}}'{flush})")
        lines.append(f"    {KEPT} = i + 1")
        if self.state:
            lines.append(f"    if (i + 1) % {self.state_every} == 0: chaos_show(i + 1)")
        if self.every_s:
            pause = f"time.sleep({self.every_s})"
            lines.append(f"    if (i + 1) % {self.burst} == 0: {pause}")
        if self.state:
            lines.append(f"chaos_show({self.count})")
        if self.display:
            lines.append(f"display({{'text/plain': '{END} {self.count}'}}, raw=True)")
        return {"comm": _COMM, "widget": _WIDGET}.get(self.state, "") + "\n".join(lines)

    @property
    def probe(self) -> str:
        """A later cell: prints :attr:`kept` if the kernel still has its state."""
        return f"print('{KEPT}', globals().get('{KEPT}'))"

    @property
    def kept(self) -> str:
        """What :attr:`probe` prints after this cell."""
        return f"{KEPT} {self.count}\n"
