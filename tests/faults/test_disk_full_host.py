"""The disk of a kernel's journal is full: the kernel works on, and its clients miss nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.small_disk import small_disk
from tests.integration.host_harness import Client, run, scene

from clouditia.testing.waiting import wait_until_async

pytestmark = [pytest.mark.faults, pytest.mark.root]

WAIT_S = 60
PRINT = "import time\nfor i in range({count}):\n    print('{word}', i, 'x' * {width}, flush=True)\n"
PROGRESS = "written again"


def lines_of(text: str, word: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith(word)]


def assert_all_accounted_for(client: Client) -> None:
    """Every number was delivered or named in a gap, none twice."""
    omitted = [n for first, last in client.gaps for n in range(first, last + 1)]
    assert sorted(client.seqs + omitted) == list(range(1, max(client.seqs) + 1))


def test_a_kernel_that_prints_on_a_full_disk_is_unharmed_and_its_clients_lose_nothing(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        with small_disk(tmp_path / "k", 16) as disk:
            async with scene(tmp_path) as made:
                client = await made.client(start=1)
                await client.run("kept = 'still here'")
                disk.fill()
                msg_id = client.execute(PRINT.format(count=2000, word="full", width=500))
                reply = await client.done(msg_id, WAIT_S)
                assert reply["status"] == "ok"
                assert lines_of(client.text(msg_id), "full") == list(range(2000))
                warning = client.text(msg_id, "stderr")
                assert warning.count("No space left on device") == 1
                assert "64 MiB" in warning
                # The control plane answers, and so does a client that comes only now.
                await made.gateway.request("interrupt")
                late = await made.client("late", start=1)
                await late.done(msg_id, WAIT_S)
                assert lines_of(late.text(msg_id), "full") == list(range(2000))
                assert await client.run("print(kept)") == "still here\n"
                # There is space again while a cell runs: it is told.
                msg_id = client.execute("import time\nwhile True: time.sleep(0.01)")
                disk.free()
                await wait_until_async(
                    lambda: PROGRESS in client.text(msg_id, "stderr"), WAIT_S, what=PROGRESS
                )
                assert "nothing was left out" in client.text(msg_id, "stderr")
                await made.gateway.request("interrupt")
                await client.done(msg_id, WAIT_S)
                numbers = client.seqs
                assert numbers == list(range(1, len(numbers) + 1))
                # What memory held is on the disk: the next host has all of it.
                made.host.kill()
                made.host.start(fence=2)
                await wait_until_async(lambda: len(made.gateway.hellos) == 2, WAIT_S)
                after = await made.client("after", start=1)
                await wait_until_async(
                    lambda: len(after.messages) >= len(numbers), WAIT_S, what="all is read"
                )
                assert after.gaps == []
                for one, other in zip(client.messages, after.messages, strict=False):
                    assert bytes(one.header) == bytes(other.header)

    run(check)


def test_what_memory_cannot_hold_is_marked_and_replies_are_kept(tmp_path: Path) -> None:
    async def check() -> None:
        with small_disk(tmp_path / "k", 4) as disk:
            async with scene(tmp_path) as made:
                client = await made.client(start=1)
                await client.run("1")
                disk.fill()
                # 80 MB: 16 more than the host keeps for the disk.
                msg_id = client.execute(PRINT.format(count=800, word="much", width=100_000))
                await client.done(msg_id, WAIT_S)
                # A client that is further behind than that has a gap, too, and misses no reply.
                assert_all_accounted_for(client)
                late = await made.client("late", start=1)
                await late.done(msg_id, WAIT_S)
                shown = lines_of(late.text(msg_id), "much")
                assert shown == list(range(800 - len(shown), 800))  # the oldest are gone
                assert 300 < len(shown) < 800
                assert_all_accounted_for(late)

    run(check)


def test_a_kernel_that_prints_without_end_stays_below_its_limit(tmp_path: Path) -> None:
    """Twelve times its limit, on a disk with half as much again: the disk never gets full."""

    async def check() -> None:
        limit = 2 * 1024 * 1024
        with small_disk(tmp_path / "k", 3):
            async with scene(tmp_path, retention={"max_bytes": limit, "max_age_s": 1e6}) as made:
                client = await made.client(start=1)
                endless = "i = 0\nwhile True:\n    print(i, 'x' * 5000, flush=True); i += 1"
                msg_id = client.execute(endless)
                await wait_until_async(
                    lambda: sum(message.size for message in client.messages) > 12 * limit,
                    WAIT_S,
                    what="24 MB are printed",
                )
                await made.gateway.request("interrupt")
                await client.done(msg_id, WAIT_S)
                assert client.text(msg_id, "stderr") == ""
                assert "cannot be written" not in made.host.log
                late = await made.client("late", start=1)
                await late.done(msg_id, WAIT_S)
                assert late.gaps
                assert_all_accounted_for(late)

    run(check)
