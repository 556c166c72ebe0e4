"""The faults: what happens, and what is counted afterwards. Each runs in a stack of its own."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import psutil
from tools.faults.client import pause
from tools.faults.stacks import NotReady, Stack

from clouditia.testing.chaos import LineOracle, NumberedLines

EVERY_S = 0.01
#: A fault begins when so many lines were seen, and a cell goes on for so long after it.
LINES_BEFORE = 50
AFTER_S = 8.0
#: How long the end of a cell is waited for, once it must be over in the kernel. After a fault of
#: the network longer than the longest pause of a page of JupyterLab between two attempts.
PATIENCE_S, LONG_PATIENCE_S = 30.0, 75.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Lengths:
    """How long and how large the faults are."""

    short_s: float = 5.0
    long_s: float = 60.0
    silence_s: float = 60.0
    asleep_s: float = 20.0
    print_bytes: int = 100_000_000
    display_bytes: int = 12_000_000
    unread_bytes: int = 200_000_000


SMOKE = Lengths(2.0, 4.0, 4.0, 3.0, 5_000_000, 12_000_000, 20_000_000)


@dataclass
class Outcome:
    """What became of a cell; None for what does not apply.

    Attributes:
        lost: Lines or messages that never came, of ``of``.
        of: How many there were.
        duplicated: What came again.
        in_order: Whether nothing came late.
        reply: Whether a reply came.
        idle: Whether an idle came.
        state: Whether the notebook, opened again, still has its variables.
        noticed_s: From the fault to the first sign of it that the user could see.
        resumed_s: From the end of the fault to the next line.
        note: What else is worth to know.
    """

    lost: int | None = None
    of: int | None = None
    duplicated: int | None = None
    in_order: bool | None = None
    reply: bool | None = None
    idle: bool | None = None
    state: bool | None = None
    noticed_s: float | None = None
    resumed_s: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a dict."""
        return asdict(self)


def _judged(oracle: LineOracle) -> Outcome:
    return Outcome(
        lost=oracle.lost,
        of=oracle.count,
        duplicated=oracle.duplicated,
        in_order=oracle.in_order,
        reply=bool(oracle.replies),
        idle=oracle.idles > 0,
    )


def _lines_for(fault_s: float) -> NumberedLines:
    return NumberedLines(int((LINES_BEFORE * EVERY_S + fault_s + AFTER_S) / EVERY_S), EVERY_S)


def _has_state(stack: Stack) -> bool:
    """Open the notebook again, as after a reload, and look for the variable of the cell."""
    try:
        again = stack.open()
    except (NotReady, OSError):
        return False
    cell = again.execute("print('chaos_kept' in globals())")
    again.wait(lambda: again.is_done(cell), PATIENCE_S)
    text = "".join(
        each.message["content"]["text"]
        for each in again.of(cell, "stream")
        if each.message["content"]["name"] == "stdout"
    )
    return text.strip() == "True"


def _print_through(
    stack: Stack,
    fault_s: float,
    begin: Callable[[], None],
    end: Callable[[], None],
    *,
    is_over_at_once: bool = False,
) -> Outcome:
    """A cell prints, a fault comes and goes, the cell ends."""
    lines = _lines_for(fault_s)
    client = stack.open()
    cell = client.execute(lines.code)
    if not client.wait(lambda: len(client.line_times(cell)) >= LINES_BEFORE / 4, PATIENCE_S):
        return Outcome(note="the cell did not begin")
    began = time.monotonic()
    begin()
    pause(fault_s)
    healed = time.monotonic()
    end()
    client.wait(lambda: client.is_done(cell), AFTER_S + LONG_PATIENCE_S)
    outcome = _judged(client.judge(lines, cell))
    told = client.told_at(began)
    outcome.noticed_s = None if told is None else told - began
    after = [at for at in client.line_times(cell) if at >= healed]
    outcome.resumed_s = after[0] - healed if after else None
    if after and is_over_at_once:
        times = [began, *(at for at in client.line_times(cell) if at > began)]
        outcome.resumed_s = max(pairwise(times), key=lambda pair: pair[1] - pair[0])[1] - began
    outcome.note = "; ".join(text for _, text in client.errors[:1])[:120]
    outcome.state = _has_state(stack)
    return outcome


# --- the network ----------------------------------------------------------------------------------


def cut_short(stack: Stack, lengths: Lengths) -> Outcome:
    """The connection is reset, and new ones for a few seconds."""
    return _print_through(stack, lengths.short_s, stack.proxy.cut, stack.proxy.heal)


def cut_long(stack: Stack, lengths: Lengths) -> Outcome:
    """The same for a minute."""
    return _print_through(stack, lengths.long_s, stack.proxy.cut, stack.proxy.heal)


def silence(stack: Stack, lengths: Lengths) -> Outcome:
    """The network swallows everything and says nothing."""
    return _print_through(stack, lengths.silence_s, stack.proxy.black_hole, stack.proxy.heal)


def stranded(stack: Stack, lengths: Lengths) -> Outcome:
    """The open connections are dead and nobody is told; new ones would pass at once."""

    def nothing_more() -> None:
        """The old connections never come back."""

    return _print_through(
        stack, lengths.silence_s, stack.proxy.strand, nothing_more, is_over_at_once=True
    )


def second_client(stack: Stack, lengths: Lengths) -> Outcome:
    """A short cut while another device is connected to the same kernel."""

    def begin() -> None:
        stack.second()
        stack.proxy.cut()

    return _print_through(stack, lengths.short_s, begin, stack.proxy.heal)


# --- processes ------------------------------------------------------------------------------------


def gateway_killed(stack: Stack, _lengths: Lengths) -> Outcome:
    """``kill -9`` of the server that has the kernels, and a new start."""
    return _print_through(stack, 0.0, stack.kill_gateway, stack.start_gateway)


def local_server_killed(stack: Stack, lengths: Lengths) -> Outcome:
    """``kill -9`` of the local server, a new start, and the notebook is opened again."""
    local = stack.local
    if local is None:
        return Outcome(note="has no local server")
    lines = _lines_for(lengths.short_s + 10.0)
    page = stack.open()
    cell = page.execute(lines.code)
    page.wait(lambda: len(page.line_times(cell)) >= LINES_BEFORE / 4, PATIENCE_S)
    began = time.monotonic()
    local.kill()
    pause(lengths.short_s)
    local.start()
    healed = time.monotonic()
    oracle = page.judge(lines, cell)
    told = page.told_at(began)
    try:
        again = stack.open(is_busy=True)
    except (NotReady, OSError) as exc:
        outcome = _judged(oracle)
        outcome.state, outcome.note = False, str(exc)[:120]
        return outcome
    gets_all = stack.ask_again(again, cell)
    again.wait(lambda: again.is_done(cell), lengths.short_s + 10.0 + AFTER_S + PATIENCE_S)
    if gets_all:  # and shows nothing else
        oracle = LineOracle(lines)
    for each in again.of(cell):
        if not gets_all or "clouditia" in each.message["metadata"]:
            oracle.feed(each.message)
    outcome = _judged(oracle)
    outcome.noticed_s = None if told is None else told - began
    after = again.line_times(cell)
    outcome.resumed_s = after[0] - healed if after else None
    outcome.state = _has_state(stack)
    return outcome


def kernel_killed(stack: Stack, _lengths: Lengths) -> Outcome:
    """``kill -9`` of the kernel in the middle of a cell."""
    client = stack.open()
    asked = client.execute("import os; print(os.getpid())")
    client.wait(lambda: client.is_done(asked), PATIENCE_S)
    pid = int(client.of(asked, "stream")[0].message["content"]["text"])
    cell = client.execute("import time\nprint('on', flush=True)\ntime.sleep(600)")
    client.wait(lambda: client.line_times(cell), PATIENCE_S)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    client.wait(lambda: client.is_done(cell), PATIENCE_S)
    replies, idles = client.of(cell, "execute_reply"), client.judge(NumberedLines(0), cell).idles
    outcome = Outcome(reply=bool(replies), idle=idles > 0, state=False)
    if replies:
        outcome.noticed_s = replies[0].at - began
        content = replies[0].message["content"]
        outcome.note = f"{content.get('ename')}: {content.get('evalue')}"[:90]
    elif client.errors:
        outcome.note = client.errors[0][1][:90]
    return outcome


# --- volume ---------------------------------------------------------------------------------------


def much_printed(stack: Stack, lengths: Lengths) -> Outcome:
    """So much text, in lines of 5 kB."""
    count = lengths.print_bytes // 5000
    code = f"chaos_kept = 1\nfor i in range({count}): print(f'#{{i}}\\n' + 'x' * 4990)"
    client = stack.open()
    cell = client.execute(code)
    client.wait(lambda: client.is_done(cell), 90.0 + PATIENCE_S)
    return _judged(client.judge(NumberedLines(count), cell))


def large_display(stack: Stack, lengths: Lengths) -> Outcome:
    """One display."""
    size = lengths.display_bytes
    code = f"display({{'text/plain': 'x' * {size}}}, raw=True)"
    return _one_message(stack, code, "display_data", size)


def binary_comm(stack: Stack, _lengths: Lengths) -> Outcome:
    """A comm that is opened with a buffer of 1 KB, as widgets do."""
    code = "from comm import create_comm\n_c = create_comm('t', buffers=[bytes(range(256)) * 4])"
    return _one_message(stack, code, "comm_open", 1024)


def _one_message(stack: Stack, code: str, msg_type: str, size: int) -> Outcome:
    client = stack.open()
    cell = client.execute(code)
    client.wait(lambda: client.is_done(cell), PATIENCE_S)
    outcome = _judged(client.judge(NumberedLines(0), cell))
    outcome.of = 1
    outcome.lost = 1 - any(each.size == size for each in client.of(cell, msg_type))
    client.errors.clear()
    following = client.execute("print('next')")
    if not client.wait(lambda: client.line_times(following), PATIENCE_S):
        outcome.note = "the next cell hangs, too"
    return outcome


def reader_asleep(stack: Stack, lengths: Lengths) -> Outcome:
    """The client stops reading while its cell displays much; memory of all servers is watched."""
    count = lengths.unread_bytes // 100_000
    code = f"for i in range({count}): display({{'text/plain': f'{{i}} '.ljust(100_000)}}, raw=True)"
    client = stack.open()
    pids = stack.server_pids()
    before = sum(map(_rss, pids))
    cell = client.execute(f"import time; time.sleep(1)\n{code}")
    client.sleep()
    peak, over = [before], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peak.append(sum(map(_rss, pids)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    pause(lengths.asleep_s)
    asleep_peak = max(peak)
    client.wake()
    client.wait(lambda: client.is_done(cell), 90.0 + PATIENCE_S)
    over.set()
    watcher.join()
    texts = [
        each.message["content"]["data"]["text/plain"] for each in client.of(cell, "display_data")
    ]
    numbers = [int(re.split(r"\s", text, maxsplit=1)[0]) for text in texts]
    outcome = _judged(client.judge(NumberedLines(0), cell))
    outcome.of, outcome.lost = count, count - len(set(numbers))
    outcome.duplicated = len(numbers) - len(set(numbers))
    outcome.in_order = numbers == sorted(numbers)
    outcome.note = f"servers grew by {(asleep_peak - before) / MIB:.0f} MiB meanwhile"
    return outcome


def _rss(pid: int) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


FAULTS: dict[str, Callable[[Stack, Lengths], Outcome]] = {
    "cut": cut_short,
    "long-cut": cut_long,
    "black-hole": silence,
    "stranded": stranded,
    "second-client": second_client,
    "gateway-killed": gateway_killed,
    "local-server-killed": local_server_killed,
    "kernel-killed": kernel_killed,
    "print": much_printed,
    "display": large_display,
    "comm": binary_comm,
    "asleep": reader_asleep,
}
