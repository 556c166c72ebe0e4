"""What a kernel host keeps of its clients when they go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.transport.pipe import WAIT_S, PipeEnd, pipe, run

from clouditia.protocol.handshake import Hello
from clouditia.protocol.journal_retention import Retention
from clouditia.protocol.link import Link, Online, Outbox, Role
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import LinkRunner
from clouditia_gateway.host.clients import ClientLinks
from clouditia_gateway.host.journal_files import JournalFiles


class World:
    """The clients' side of a host, without kernel."""

    def __init__(self, directory: Path) -> None:
        journal = JournalFiles(directory, Retention(max_bytes=2**30, max_age_s=1e6), lambda: 10**18)
        journal.load()
        requests: Any = SimpleNamespace(submit=None)
        self.links = ClientLinks("k", journal, requests, state=dict, on_change=lambda: None)
        self.journal = journal

    async def join(self, client_id: str) -> tuple[Link, LinkRunner, PipeEnd, list[Any]]:
        """A client that is online, and the tasks of both ends."""
        near, far = pipe()
        link = Link(Role.CLIENT, Outbox(), hello=Hello(client_id, "k"))
        online = asyncio.Event()
        runner = LinkRunner(
            link, on_event=lambda event: online.set() if isinstance(event, Online) else None
        )
        tasks = [
            asyncio.create_task(self.links.serve(far)),
            asyncio.create_task(runner.run(near)),
        ]
        async with asyncio.timeout(WAIT_S):
            await online.wait()
        return link, runner, near, tasks


@pytest.mark.parametrize("is_goodbye", [True, False])
def test_a_client_is_forgotten_when_it_has_left_for_good_and_only_then(
    tmp_path: Path, is_goodbye: bool
) -> None:
    async def test() -> None:
        world = World(tmp_path)
        link, runner, near, tasks = await world.join("c")
        await wait_until_async(lambda: world.links.online == 1, WAIT_S)
        if is_goodbye:
            link.say_goodbye()
            runner.wake()
        else:
            near.close_now()
        await asyncio.wait(tasks, timeout=WAIT_S)
        assert world.links.online == 0
        assert list(world.links._clients) == ([] if is_goodbye else ["c"])
        world.journal.close()

    run(test)
