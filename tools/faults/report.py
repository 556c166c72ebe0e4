"""The page ``docs/fault-table.md``, from the outcomes."""

from __future__ import annotations

from collections.abc import Mapping

from tools.faults.faults import Lengths, Outcome

#: What readers see of a fault; the numbers are those of the run.
TITLES = {
    "cut": "connection reset for {short_s:g} s",
    "long-cut": "connection reset for {long_s:g} s",
    "black-hole": "network silent for {silence_s:g} s",
    "stranded": "open connections dead, nobody is told, new ones pass",
    "second-client": "reset for {short_s:g} s, a second client is connected",
    "gateway-killed": "server of the kernels: `kill -9`, started again",
    "local-server-killed": "local server: `kill -9`, started again, notebook opened again",
    "kernel-killed": "kernel: `kill -9`",
    "print": "{print_mb:g} MB printed",
    "display": "one display of {display_mb:g} MB",
    "comm": "comm with a binary buffer of 1 KB",
    "asleep": "reader asleep for {asleep_s:g} s, {unread_mb:g} MB of displays",
}

#: For what does not apply, or never happened.
_NONE = "-"

_HEAD = """# What is lost when something breaks

The same faults in Clouditia and in what people use today. `make fault-table` runs them and writes
this page; it takes about a quarter of an hour and needs `make peers`. The options of
`tools/fault_table.py` ask for less.

A cell prints numbered lines every 10 ms, and what its user got of them is counted. The user sits
at a page that behaves as JupyterLab's: it reconnects under the same `session_id`, at most seven
times in a row. Only jupyter-kernel-client is a client of its own, with its default options.
"""

_LEGEND = """
*Lost* counts what never came; where the notebook was opened again, both pages count. *Twice* counts
what came again. *Reply* and *idle* end a cell: without them a notebook shows `[*]` for ever.
*State* says whether the notebook, opened again, finds its variables. *Noticed* is the first sign of
trouble that the user could see: a closed connection, a line in the cell, an error, or for a killed
kernel the answer. *On again* is the time from the end of the fault to the next line; where only the
open connections died, from the beginning. A dash stands for what does not apply or did not happen.
What had not come 75 s after the cell was over in the kernel counts as never.
"""


def page(
    outcomes: Mapping[str, Mapping[str, Outcome]],
    *,
    titles: Mapping[str, str],
    versions: Mapping[str, str],
    lengths: Lengths,
    circumstances: str,
) -> str:
    """The whole page.

    Args:
        outcomes: By fault, then by stack.
        titles: Of the stacks.
        versions: Of the stacks.
        lengths: Of the faults.
        circumstances: Date and machine.
    """
    stacks = list(titles)
    parts = [_HEAD, "\n## Lost\n", _lost(outcomes, stacks, titles, lengths), _LEGEND]
    for fault, by_stack in outcomes.items():
        parts.append(f"\n## {_title(fault, lengths).replace('`', '')}\n")
        parts.append(_details(by_stack, titles))
    parts.append(f"\n## Circumstances\n\n{circumstances}\n\n")
    parts += [f"- {titles[stack]}: {versions[stack]}\n" for stack in stacks]
    return "".join(parts)


def _title(fault: str, lengths: Lengths) -> str:
    megabytes = {
        "print_mb": lengths.print_bytes / 1e6,
        "display_mb": lengths.display_bytes / 1e6,
        "unread_mb": lengths.unread_bytes / 1e6,
    }
    return TITLES[fault].format(**vars(lengths), **megabytes)


def _lost(
    outcomes: Mapping[str, Mapping[str, Outcome]],
    stacks: list[str],
    titles: Mapping[str, str],
    lengths: Lengths,
) -> str:
    rows = [
        [_title(fault, lengths), *(_summary(by_stack.get(stack)) for stack in stacks)]
        for fault, by_stack in outcomes.items()
    ]
    return _table(["fault", *(titles[stack] for stack in stacks)], rows)


def _summary(outcome: Outcome | None) -> str:
    """Loss and, where a cell never ended, that."""
    if outcome is None:
        return "not run"
    if outcome.reply is None:
        return _NONE if "has no" in outcome.note else outcome.note
    words = [] if outcome.lost is None else [f"{outcome.lost} of {outcome.of}"]
    missing = [name for name in ("reply", "idle") if not getattr(outcome, name)]
    if missing:
        words.append("no " + ", no ".join(missing))
    elif outcome.lost is None:
        words.append("answered with the cause" if "KernelDied" in outcome.note else "ended")
    if outcome.lost is not None and outcome.state is False:
        words.append("state lost")
    has_state = outcome.state is not False or outcome.lost is None
    is_fine = not outcome.lost and not missing and has_state
    text = ", ".join(words)
    return text if is_fine else f"**{text}**"


def _details(by_stack: Mapping[str, Outcome], titles: Mapping[str, str]) -> str:
    head = ["", "lost", "twice", "in order", "reply", "idle", "state", "noticed", "on again", ""]
    rows = []
    for stack, found in by_stack.items():
        lost = _NONE if found.lost is None else f"{found.lost} of {found.of}"
        flags = [_flag(value) for value in (found.in_order, found.reply, found.idle, found.state)]
        times = [_seconds(found.noticed_s), _seconds(found.resumed_s)]
        twice = _NONE if found.duplicated is None else str(found.duplicated)
        rows.append([titles[stack], lost, twice, *flags, *times, found.note.replace("|", "/")])
    return _table(head, rows)


def _flag(value: bool | None) -> str:  # noqa: FBT001  (a cell of a table)
    return _NONE if value is None else "yes" if value else "**no**"


def _seconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1f} s"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(" ".join(cell.split()) for cell in line) + " |\n" for line in lines
    )
