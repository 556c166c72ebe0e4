"""A kernel host's journal on disk while its kernel lives: damage to it costs what was damaged."""

from __future__ import annotations

from pathlib import Path

from tests.integration.host_harness import run, scene

from clouditia.testing.waiting import wait_until_async

WAIT_S = 60


def test_damage_to_the_journal_of_a_live_kernel_costs_what_was_damaged(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client(start=1)
            # More than the host keeps in memory, so that the first lines come from the disk.
            code = "for i in range(300):\n    print(i, 'x' * 50_000, flush=True)"
            msg_id = client.execute(code)
            await client.done(msg_id, WAIT_S)
            segment = made.host.directory / "journal" / "00000001.journal"
            content = segment.read_bytes()
            place = content.index(b"7 " + b"x" * 50)
            with segment.open("r+b") as file:
                file.seek(place)
                file.write(b"!")
            late = await made.client("late", start=1)
            await late.done(msg_id, WAIT_S)
            ((first, last),) = late.gaps
            assert first == last
            lines = [int(line.split()[0]) for line in late.text(msg_id).splitlines()]
            assert lines == [number for number in range(300) if number != 7]
            assert await client.run("print(i)") == "299\n"
            # The next host reads the same, and says in its log what it left out.
            made.host.kill()
            made.host.start(fence=2)
            await wait_until_async(lambda: len(made.gateway.hellos) == 2, WAIT_S)
            after = await made.client("after", start=1)
            await after.done(msg_id, WAIT_S)
            assert after.gaps == [(first, last)]
            assert after.text(msg_id) == late.text(msg_id)
            assert "bytes at" in made.host.log
            assert "are left out: damaged" in made.host.log

    run(check)
