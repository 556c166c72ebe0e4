"""However a kernel dies: everything that waits is answered within 3 s, with the cause."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.host_harness import Client, Scene, run, scene
from tests.needs_memory import memory_limit

from clouditia.testing.waiting import wait_until_async

pytestmark = pytest.mark.faults

#: The promise of docs/architecture.md for the death of a kernel.
CAUSE_S = 3.0
LIMIT_BYTES = 400 * 2**20

#: Prints, waits for the file ``gate``, writes to the real stderr, and dies.
DYING = """
import os, pathlib, sys, time
os.write(2, b'last words\\n')
print('alive', flush=True)
while not pathlib.Path({gate!r}).exists():
    time.sleep(0.005)
{death}
time.sleep(60)
"""
#: How it dies, what the cause is called, and words of the sentence.
DEATHS = {
    "SIGKILL": ("os.kill(os.getpid(), 9)", "signal", "SIGKILL (by hand"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "signal", "SIGSEGV (it touched memory"),
    "abort": ("os.abort()", "signal", "SIGABRT"),
    "os._exit": ("os._exit(3)", "exit", "exited with code 3"),
    "sys.exit in the loop": (
        "import asyncio; asyncio.get_event_loop().call_soon(sys.exit, 5); await asyncio.sleep(60)",
        "exit",
        "exited with code 5",
    ),
    "os._exit in a thread": (
        "import threading\nthreading.Thread(target=os._exit, args=(4,)).start()",
        "exit",
        "exited with code 4",
    ),
}


async def all_are_told(client: Client, asked: list[str], since: float) -> list[dict[str, Any]]:
    """The replies of all requests; each has come in time, and its idle, too."""
    replies = [await client.done(msg_id) for msg_id in asked]
    took_s = time.monotonic() - since
    assert took_s < CAUSE_S, f"the cause came after {took_s:.1f} s"
    return replies


def ask_much(client: Client, code: str) -> list[str]:
    """The cell, and what waits behind it and beside it."""
    cell = client.execute(code)
    queued = [client.execute("1"), client.execute("2")]
    content = {"code": "pri", "cursor_pos": 3}
    tools = [
        client.send("shell", "complete_request", content),
        client.send("shell", "inspect_request", {**content, "detail_level": 0}),
        client.send("shell", "comm_info_request", {}),
        client.send("shell", "history_request", {"hist_access_type": "tail", "n": 1}),
    ]
    return [cell, *queued, *tools]


#: The other ways run in the default run, too, but with less behind them (test_kernel_host_ends.py).
QUICK = ("segfault",)


@pytest.mark.parametrize(
    "how",
    [how if how in QUICK else pytest.param(how, marks=pytest.mark.slow) for how in DEATHS],
)
def test_all_that_waits_is_answered_with_the_cause(tmp_path: Path, how: str) -> None:
    death, cause, words = DEATHS[how]
    gate = tmp_path / "gate"

    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            asked = ask_much(client, DYING.format(gate=str(gate), death=death))
            await wait_until_async(lambda: "alive" in client.text(asked[0]), 60)
            since = time.monotonic()
            gate.touch()
            replies = await all_are_told(client, asked, since)
            for reply in replies:
                assert (reply["status"], reply["ename"]) == ("error", "KernelDied")
                assert words in reply["evalue"]
                assert reply["reason"] == cause
                assert any("last words" in line for line in reply["traceback"])
            await is_not_restarted_but_can_be(made, client, cause)

    run(check)


async def is_not_restarted_but_can_be(made: Scene, client: Client, cause: str) -> None:
    exited = await client.sees("kernel_exited", expected=False)
    assert exited["cause"] == cause
    await wait_until_async(lambda: made.gateway.state["execution_state"] == "dead", CAUSE_S)
    assert made.gateway.state["epoch"] == 1
    assert made.gateway.state["exit"]["cause"] == cause
    assert (await made.gateway.request("restart"))["ok"]
    fresh = client.execute("print('up again')")
    await client.done(fresh)
    assert client.text(fresh) == "up again\n"


def test_a_cell_that_waits_for_input_is_answered_too(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            content = {"code": "input('name? ')", "silent": False, "allow_stdin": True}
            asked = [client.send("shell", "execute_request", content), client.execute("1")]
            await client.sees("input_request")
            since = time.monotonic()
            os.kill(made.host.host_file()["kernel_pid"], signal.SIGKILL)
            for reply in await all_are_told(client, asked, since):
                assert reply["reason"] == "signal"
            # An answer that comes after all is nobody's; it must do no harm.
            client.send("stdin", "input_reply", {"value": "Ada"})
            await is_not_restarted_but_can_be(made, client, "signal")

    run(check)


def test_a_kernel_that_reaches_its_memory_limit_says_so_with_the_limit(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path, start=False) as made:
            made.host.prefix = group.prefix
            made.host.start()
            client = await made.client()
            gate = tmp_path / "gate"
            death = "held = []\nwhile True: held.append(bytearray(os.urandom(1)) * 2**22)"
            asked = ask_much(client, DYING.format(gate=str(gate), death=death))
            await wait_until_async(lambda: "alive" in client.text(asked[0]), 60)
            gate.touch()
            exited = await client.sees("kernel_exited", expected=False)
            replies = await all_are_told(client, asked, time.monotonic())
            assert exited["cause"] == "oom"
            for reply in replies:
                assert "its memory limit of 400 MiB was reached" in reply["evalue"]
                assert reply["reason"] == "oom"
            await is_not_restarted_but_can_be(made, client, "oom")

    with memory_limit(LIMIT_BYTES) as group:
        run(check)


def test_the_system_ends_the_kernel_before_its_host(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            said = await client.run("print(open('/proc/self/oom_score_adj').read())")
            host = Path(f"/proc/{made.host.pid}/oom_score_adj").read_text()
            assert int(said) == min(1000, int(host) + 100)

    run(check)
