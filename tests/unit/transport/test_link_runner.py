"""One link over one connection at a time: how a connection begins, flows and ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.transport.pipe import (
    WAIT_S,
    ClientSide,
    HostSide,
    PipeEnd,
    PushPipeEnd,
    pipe,
    run,
)

from clouditia.errors import ClouditiaError, ConnectionLostError, RemoteProtocolError, SessionError
from clouditia.protocol.link import Event, LinkConfig, LinkState, Online
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_runner import LinkRunner, TransportClosed

HASTY = LinkConfig(ping_after_s=0.05, give_up_after_s=0.1, handshake_timeout_s=0.1)

#: Too large to share a websocket message with others.
LARGE = 20_000


class World:
    """A client's runner and a host, joined by a pipe."""

    def __init__(self, config: LinkConfig | None = None) -> None:
        self.host = HostSide()
        self.client = ClientSide(config)
        self.runner = LinkRunner(self.client.link, on_event=self.client.on_event)
        self.near = PipeEnd()

    def join(self) -> asyncio.Task[ClouditiaError]:
        self.near, far = pipe()
        self.host.serve(far)
        return asyncio.create_task(self.runner.run(self.near))

    async def online(self, times: int = 1) -> None:
        def count() -> int:
            return sum(isinstance(event, Online) for event in self.client.events)

        await wait_until_async(lambda: count() == times, WAIT_S, what="the handshake is done")


def test_messages_flow_both_ways_in_order() -> None:
    async def test() -> None:
        world = World()
        served = world.join()
        await world.online()
        up = [b"up %d" % i for i in range(300)]
        down = [b"down %d" % i for i in range(300)]
        world.host.say(*down)
        for message in up:
            world.client.outbox.append([message[:2], message[2:]])
        world.runner.wake()
        await wait_until_async(lambda: world.host.got == up and world.client.got == down, WAIT_S)
        world.near.close_now()
        await served
        await world.host.stop()

    run(test)


def test_what_was_on_its_way_when_the_connection_was_cut_comes_once_on_the_next() -> None:
    async def test() -> None:
        world = World()
        served = world.join()
        await world.online()
        world.near.is_frozen = world.near.peer.is_frozen = True
        world.host.say(b"d1", b"d2")
        world.client.outbox.append([b"u1"])
        world.runner.wake()
        await wait_until_async(lambda: any(b"u1" in frame for frame in world.near.sent), WAIT_S)
        world.near.is_frozen = False
        world.near.peer.close_now()
        world.near.close_now()
        ended = await served
        assert isinstance(ended, TransportClosed)
        served = world.join()
        await world.online(2)
        world.host.say(b"d3")
        await wait_until_async(lambda: world.client.got == [b"d1", b"d2", b"d3"], WAIT_S)
        await wait_until_async(lambda: world.host.got == [b"u1"], WAIT_S)
        served.cancel()
        await asyncio.wait([served])
        await world.host.stop()

    run(test)


def test_nothing_overtakes_what_waits_for_room() -> None:
    """A reader makes room between two frames of a batch: the rest of it still goes first."""

    async def test() -> None:
        host, client = HostSide(), ClientSide()
        client_end, host_end = pipe(PushPipeEnd)
        assert isinstance(host_end, PushPipeEnd)
        host.serve(host_end)
        runner = LinkRunner(client.link, on_event=client.on_event)
        running = asyncio.create_task(runner.run(client_end))
        await wait_until_async(lambda: client.link.state is LinkState.ONLINE, WAIT_S)
        host_end.has_room.clear()
        host_end.is_congested = True
        said = [bytes([number]) * LARGE for number in range(6)]
        host.say(*said[:3])
        await wait_until_async(lambda: host.runner._is_writing, WAIT_S)
        host_end.is_congested = False
        host.say(*said[3:])
        await asyncio.sleep(0)  # its turn to write comes, and it has none
        host_end.has_room.set()
        await wait_until_async(lambda: len(client.got) == len(said) or running.done(), WAIT_S)
        assert client.got == said
        running.cancel()
        await host.stop()

    run(test)


def test_a_close_code_of_the_peer_is_returned() -> None:
    async def test() -> None:
        world = World()
        served = world.join()
        await world.online()
        world.near.peer.close_now(4401, "revoked")
        ended = await served
        assert isinstance(ended, TransportClosed)
        assert (ended.close_code, ended.message, ended.retryable) == (4401, "revoked", True)
        assert world.near.is_closed
        await world.host.stop()

    run(test)


def test_an_error_that_the_peer_says_is_the_reason_and_not_the_cut_that_follows() -> None:
    async def test() -> None:
        world = World()
        served = world.join()
        await world.online()
        world.host.link.close(SessionError("taken over").to_wire())
        world.host.runner.wake()
        ended = await served
        assert type(ended) is SessionError
        assert ended.message == "taken over"
        await world.host.stop()

    run(test)


def test_a_mistake_of_the_peer_is_told_to_both_sides() -> None:
    async def test() -> None:
        near, far = pipe()
        client = ClientSide()
        served = asyncio.create_task(LinkRunner(client.link, on_event=client.on_event).run(near))
        await far.receive()  # HELLO
        await far.send([b"\xffnonsense"])
        ended = await served
        assert isinstance(ended, RemoteProtocolError)
        assert b'"remote_protocol"' in bytes(await far.receive())
        assert near.is_closed

    run(test)


@pytest.mark.parametrize("is_online", [True, False], ids=["after", "before"])
def test_a_peer_that_says_nothing_is_given_up(is_online: bool) -> None:
    async def test() -> None:
        world = World(HASTY)
        if is_online:
            served = world.join()
            await world.online()
            world.near.is_frozen = world.near.peer.is_frozen = True
        else:
            world.near, _ = pipe()
            served = asyncio.create_task(world.runner.run(world.near))
        ended = await asyncio.wait_for(served, WAIT_S)
        assert type(ended) is ConnectionLostError
        assert ended.retryable
        assert "nothing was heard" in ended.message
        assert world.near.is_closed
        await world.host.stop()

    run(test)


def test_a_quiet_peer_that_answers_pings_is_kept() -> None:
    async def test() -> None:
        world = World(HASTY)
        served = world.join()
        await world.online()
        begin = len(world.near.sent)
        # Three pings take longer than the time after which a silent peer is given up.
        await wait_until_async(lambda: len(world.near.sent) >= begin + 3, WAIT_S)
        assert not served.done()
        served.cancel()
        await asyncio.wait([served])
        await world.host.stop()

    run(test)


@pytest.mark.parametrize("is_stopped_up", [False, True])
def test_cancelling_closes_the_connection_and_the_link_can_go_on(is_stopped_up: bool) -> None:
    async def test() -> None:
        world = World()
        served = world.join()
        await world.online()
        if is_stopped_up:
            world.near.has_room.clear()
            world.client.outbox.append([b"u1"])
            world.runner.wake()
        served.cancel()
        await asyncio.wait([served], timeout=WAIT_S)
        assert served.cancelled()
        assert world.near.is_closed
        again = world.join()
        await world.online(2)
        again.cancel()
        await asyncio.wait([again])
        await world.host.stop()

    run(test)


def test_a_frame_that_was_read_before_is_the_first_one() -> None:
    async def test() -> None:
        near, far = pipe()
        client, host = ClientSide(), HostSide()
        served = asyncio.create_task(LinkRunner(client.link, on_event=client.on_event).run(near))
        hello = await far.receive()
        hosted = asyncio.create_task(host.runner.run(far, hello))
        await wait_until_async(lambda: client.events, WAIT_S)
        assert isinstance(client.events[0], Online)
        near.close_now()
        await served
        await hosted

    run(test)


def test_a_bug_in_the_application_is_raised_and_the_connection_closed() -> None:
    async def test() -> None:
        def broken(event: Event) -> None:
            raise KeyError("a bug")

        near, far = pipe()
        host = HostSide()
        host.serve(far)
        with pytest.raises(KeyError):
            await LinkRunner(ClientSide().link, on_event=broken).run(near)
        assert near.is_closed
        await host.stop()

    run(test)
