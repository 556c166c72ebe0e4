"""A kernel host whose gateway has set a limit: what counts as use, and when it ends its kernel."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.integration.host_harness import run, scene

from clouditia.testing.waiting import wait_until_async

LIMIT_S = 1.0


def test_an_outage_of_the_gateway_is_no_idle_time_and_a_grace_follows_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path, start=False) as made:
            made.gateway.limits = {"cull_idle_timeout_s": LIMIT_S}
            made.host.start()
            await wait_until_async(lambda: made.gateway.state.get("execution_state") == "idle", 60)
            await made.gateway.stop()
            began = time.monotonic()
            await wait_until_async(lambda: time.monotonic() - began > 2 * LIMIT_S, 60)
            assert made.host.process is not None
            assert made.host.process.poll() is None
            await made.gateway.start()
            await wait_until_async(lambda: len(made.gateway.hellos) == 2, 60)
            back = time.monotonic()
            assert made.gateway.state["execution_state"] == "idle"
            await made.host.exited()
            assert time.monotonic() - back > LIMIT_S - 0.5
            state = made.gateway.state
            assert (state["execution_state"], state["reason"]) == ("dead", "ended")
            assert "cull_idle_timeout" in state["ended_because"]

    run(check)


def test_a_client_keeps_the_kernel_even_after_the_warning_and_without_one_it_is_ended(
    tmp_path: Path,
) -> None:
    ttl_s = 3.0

    async def check() -> None:
        async with scene(tmp_path, start=False, detached_ttl_s=ttl_s) as made:
            made.host.start()
            client = await made.client(start=1)
            await client.run("kept = 1")
            cell = client.execute("print(2)")
            await client.done(cell)
            await wait_until_async(lambda: bool(made.gateway.state["limits"]), 60)
            assert made.gateway.state["limits"] == {"detached_ttl": ttl_s}
            assert made.gateway.state["ends_at"] is None
            await client.cut()
            await wait_until_async(lambda: bool(made.gateway.state["ends_at"]), 60)
            await client.connect()
            await wait_until_async(
                lambda: "will not be ended" in client.text(cell, "stderr"), 60, what="it is kept"
            )
            warning = client.text(cell, "stderr")
            assert "will be ended in 0.75 s: it had no work and no client for a time" in warning
            assert "the limit is 3 s (its detached_ttl). To keep it, open its notebook" in warning
            await wait_until_async(lambda: not made.gateway.state["ends_at"], 60)
            assert await client.run("print(kept)") == "1\n"
            await client.cut()
            since = time.monotonic()
            await asyncio.to_thread(made.host.wait_exit, 60)
            assert time.monotonic() - since > ttl_s - 0.5

    run(check)
