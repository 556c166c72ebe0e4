"""A client's link that stays: when it comes back, when it gives up, and how it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.unit.transport.pipe import WAIT_S, ClientSide, HostSide, PipeEnd, pipe, run

from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    ConnectionLostError,
    GatewayUnreachable,
    KernelNotFound,
    PermissionDeniedError,
    RemoteProtocolError,
    SessionError,
)
from clouditia.protocol.link import ClosedByPeer, LinkConfig
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.link_connection import LinkConnection
from clouditia.transport.link_runner import FrameTransport
from clouditia.transport.retrying import Backoff
from clouditia.transport.websocket import HandshakeRefused

HASTY = LinkConfig(ping_after_s=0.05, give_up_after_s=0.1, handshake_timeout_s=0.1)


class World:
    """A connection to a host; ``refusals`` are met first, one an attempt."""

    def __init__(
        self, *refusals: ClouditiaError, config: LinkConfig | None = None, is_mute: bool = False
    ) -> None:
        self.refusals = list(refusals)
        self.attempts = 0
        self.near = PipeEnd()
        self.host = HostSide()
        self.client = ClientSide(config)
        self.is_mute = is_mute
        self.ups = 0
        self.downs: list[ClouditiaError] = []
        self.connection = LinkConnection(
            self._connect,
            self.client.link,
            self.client.outbox,
            on_event=self.client.on_event,
            on_online=self._went_up,
            on_offline=self.downs.append,
        )

    def _went_up(self) -> None:
        self.ups += 1

    async def _connect(self) -> FrameTransport:
        self.attempts += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self.near, far = pipe()
        if not self.is_mute:
            self.host.serve(far)
        return self.near

    def start(self) -> asyncio.Task[ClouditiaError]:
        return asyncio.create_task(self.connection.run())

    async def online(self, times: int = 1) -> None:
        await wait_until_async(lambda: self.ups == times, WAIT_S, what="online")

    async def hurried(self, predicate: Callable[[], object]) -> None:
        """Wait for something without waiting out the delays between attempts."""

        def is_so() -> object:
            self.connection.hurry()
            return predicate()

        await wait_until_async(is_so, WAIT_S)

    async def stop(self, running: asyncio.Task[ClouditiaError]) -> None:
        running.cancel()
        await asyncio.wait([running], timeout=WAIT_S)
        assert running.done()
        await self.host.stop()


def unreachable() -> GatewayUnreachable:
    return GatewayUnreachable("nobody listens", retryable=True)


def test_a_cut_connection_comes_back_by_itself_and_nothing_is_lost_or_doubled() -> None:
    async def test() -> None:
        world = World()
        running = world.start()
        await world.online()
        world.host.say(b"d1")
        world.connection.send([b"u1"])
        await wait_until_async(lambda: world.client.got and world.host.got, WAIT_S)
        world.near.peer.close_now()
        await wait_until_async(lambda: not world.connection.is_online, WAIT_S)
        world.connection.send([b"u2"])
        world.host.say(b"d2")
        await world.online(2)
        await wait_until_async(lambda: world.client.got == [b"d1", b"d2"], WAIT_S)
        await wait_until_async(lambda: world.host.got == [b"u1", b"u2"], WAIT_S)
        assert [str(error) for error in world.downs] == ["cut"]
        await world.stop(running)

    run(test)


def test_messages_wait_for_the_first_connection() -> None:
    async def test() -> None:
        world = World(unreachable())
        assert world.connection.send([b"u1"]) == 1
        running = world.start()
        await world.hurried(lambda: world.host.got == [b"u1"])
        assert world.downs == []  # it was never online
        await world.stop(running)

    run(test)


def test_attempts_are_spread_out_up_to_1_2_s_and_begin_anew_after_a_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def delays() -> list[object]:
        return [
            record.args[1]
            for record in caplog.records
            if "next attempt" in record.msg and isinstance(record.args, tuple)
        ]

    async def test() -> None:
        world = World(*[unreachable() for _ in range(8)])
        running = world.start()
        await world.hurried(lambda: world.ups)
        assert delays() == [0.25, 0.5, 1.0, 1.2, 1.2, 1.2, 1.2, 1.2]
        caplog.clear()
        world.near.peer.close_now()
        await world.online(2)
        assert delays() == [0.25]
        await world.stop(running)

    caplog.set_level(logging.INFO, "clouditia.link")
    run(test)


def test_attempts_become_rarer_when_the_outage_is_a_quarter_of_an_hour_old() -> None:
    async def test() -> None:
        times = [0.0, 1.0, 2.0, 899.0, 901.0, 902.0, 903.0, 904.0, 905.0]
        clock = iter(times)
        backoff = Backoff(lambda: next(clock))
        delays = []
        for _ in times:
            pause = asyncio.create_task(backoff.pause())
            while not pause.done():
                backoff.hurry()
                await asyncio.sleep(0)
            delays.append(backoff.delay_s)
        assert delays == [0.5, 1.0, 1.2, 1.2, 2.4, 4.8, 9.6, 10.0, 10.0]
        backoff.reset()
        assert backoff.delay_s == 0.25

    run(test)


def test_hurry_does_not_wait_out_the_delay() -> None:
    async def test() -> None:
        world = World(*[unreachable() for _ in range(20)])
        running = world.start()
        begin = asyncio.get_running_loop().time()
        await world.hurried(lambda: world.ups)
        # The shortest delays of twenty attempts in a row are 11 s together.
        assert asyncio.get_running_loop().time() - begin < 6
        await world.stop(running)

    run(test)


@pytest.mark.parametrize(
    "refusal",
    [
        AuthenticationError("unknown key"),
        PermissionDeniedError("not yours"),
        KernelNotFound("no such kernel"),
        ConfigError("the certificate is not trusted"),
        GatewayUnreachable("for good", retryable=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_that_will_not_pass_ends_it_at_once(refusal: ClouditiaError) -> None:
    async def test() -> None:
        world = World(refusal)
        assert await world.connection.run() is refusal
        assert world.attempts == 1

    run(test)


@pytest.mark.parametrize(
    "refusal",
    [unreachable(), HandshakeRefused("starting", status=503)],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_that_may_pass_is_tried_again(refusal: ClouditiaError) -> None:
    async def test() -> None:
        world = World(refusal)
        running = world.start()
        await world.online()
        assert world.attempts == 2
        await world.stop(running)

    run(test)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (4001, ConnectionLostError),
        (4401, AuthenticationError),
        (4403, PermissionDeniedError),
        (4404, KernelNotFound),
        (4410, KernelNotFound),
    ],
)
def test_a_final_close_code_ends_it_with_its_error(code: int, kind: type[ClouditiaError]) -> None:
    async def test() -> None:
        world = World()
        running = world.start()
        await world.online()
        world.near.peer.close_now(code, "the reason")
        ended = await asyncio.wait_for(running, WAIT_S)
        assert type(ended) is kind
        assert "the reason" in ended.message
        assert world.attempts == 1
        await world.host.stop()

    run(test)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 4409, 4503])
def test_other_close_codes_are_only_a_pause(code: int) -> None:
    async def test() -> None:
        world = World()
        running = world.start()
        await world.online()
        world.near.peer.close_now(code, "later")
        await world.hurried(lambda: world.ups == 2)
        await world.stop(running)

    run(test)


def test_a_peer_that_breaks_the_protocol_is_not_tried_again() -> None:
    async def test() -> None:
        world = World(is_mute=True)
        running = world.start()
        await wait_until_async(lambda: world.attempts, WAIT_S)
        await world.near.peer.send([b"\xffnonsense"])
        assert isinstance(await asyncio.wait_for(running, WAIT_S), RemoteProtocolError)
        assert world.attempts == 1
        assert world.near.is_closed

    run(test)


def test_a_host_that_closes_the_link_with_an_error_ends_it() -> None:
    async def test() -> None:
        world = World()
        running = world.start()
        await world.online()
        world.host.link.close(SessionError("taken over").to_wire())
        world.host.runner.wake()
        ended = await asyncio.wait_for(running, WAIT_S)
        assert (type(ended), ended.message) == (SessionError, "taken over")
        await world.host.stop()

    run(test)


def test_a_connection_that_is_only_half_open_is_given_up_and_the_next_resumes() -> None:
    async def test() -> None:
        world = World(config=HASTY)
        running = world.start()
        await world.online()
        first = world.near
        first.is_frozen = first.peer.is_frozen = True
        world.connection.send([b"u1"])
        world.host.say(b"d1")
        await world.online(2)
        assert first.is_closed
        await wait_until_async(
            lambda: (world.host.got, world.client.got) == ([b"u1"], [b"d1"]), WAIT_S
        )
        await world.stop(running)

    run(test)


@pytest.mark.parametrize("is_up", [True, False])
def test_cancelling_closes_the_connection_or_the_wait_for_one(is_up: bool) -> None:
    async def test() -> None:
        world = World(*([] if is_up else [unreachable()]))
        running = world.start()
        await wait_until_async(lambda: world.ups if is_up else world.attempts, WAIT_S)
        await world.stop(running)
        assert running.cancelled()
        assert world.near.is_closed is is_up

    run(test)


# --- goodbye ------------------------------------------------------------------------------------


def test_goodbye_is_heard_by_the_host_and_ends_the_connection() -> None:
    async def test() -> None:
        world = World()
        running = world.start()
        await world.online()
        world.connection.say_goodbye()
        await asyncio.wait_for(running, WAIT_S)
        assert world.near.is_closed
        await wait_until_async(lambda: isinstance(world.host.events[-1], ClosedByPeer), WAIT_S)
        said = world.host.events[-1]
        assert isinstance(said, ClosedByPeer)
        assert said.is_goodbye
        assert world.attempts == 1
        await world.host.stop()

    run(test)


def test_goodbye_without_a_connection_ends_it_at_once() -> None:
    async def test() -> None:
        world = World(*[unreachable() for _ in range(9)])
        running = world.start()
        await wait_until_async(lambda: world.attempts, WAIT_S)
        world.connection.say_goodbye()
        await asyncio.wait_for(running, WAIT_S)
        assert world.attempts <= 2

    run(test)


def test_a_connection_that_comes_after_goodbye_is_closed_again() -> None:
    async def test() -> None:
        world = World(is_mute=True)
        running = world.start()
        world.connection.say_goodbye()  # before the first attempt has begun
        await asyncio.wait_for(running, WAIT_S)
        assert world.attempts == 1
        assert world.near.is_closed
        assert world.near.sent == []

    run(test)
