"""One ZMQ socket on an asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq

from clouditia.protocol.messages import Buffer
from clouditia.testing.waiting import wait_until_async
from clouditia.transport.zmq_endpoint import BATCH_MESSAGES, ZERO_COPY_BYTES, ZmqEndpoint


class Pair:
    """Two connected endpoints and what each has received, batch by batch."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], high_water_mark: int) -> None:
        self.received: list[list[list[Buffer]]] = []
        self.drained = 0
        near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for socket in (near, far):
            socket.set_hwm(high_water_mark)
        near.bind("inproc://pair")
        far.connect("inproc://pair")
        self.near = ZmqEndpoint(near, lambda batch: None, on_drained=self._on_drained)
        self.far = ZmqEndpoint(far, self.received.append)

    @property
    def messages(self) -> list[list[bytes]]:
        return [[bytes(part) for part in message] for batch in self.received for message in batch]

    def _on_drained(self) -> None:
        self.drained += 1


@asynccontextmanager
async def connected(high_water_mark: int = 0) -> AsyncIterator[Pair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pair = Pair(context, high_water_mark)
    try:
        yield pair
    finally:
        pair.near.close()
        pair.far.close()
        context.destroy(linger=0)


def run(coroutine: object) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(coroutine)  # type: ignore[arg-type]


def test_messages_arrive_whole_in_order_and_in_bounded_batches() -> None:
    async def scenario() -> None:
        async with connected() as pair:
            sent = [[b"%d" % number, b"", b"x"] for number in range(1000)]
            for message in sent:
                pair.near.send(message)
            await wait_until_async(lambda: len(pair.messages) == 1000, 5)
            assert pair.messages == sent
            assert max(len(batch) for batch in pair.received) <= BATCH_MESSAGES

    run(scenario())


def test_large_parts_are_views_and_small_ones_bytes() -> None:
    async def scenario() -> None:
        async with connected() as pair:
            large = bytes(range(256)) * (ZERO_COPY_BYTES // 256)
            pair.near.send([b"small", large, memoryview(large)])
            await wait_until_async(lambda: pair.received, 5)
            ((message,),) = pair.received
            assert [type(part) for part in message] == [bytes, memoryview, memoryview]
            assert [bytes(part) for part in message] == [b"small", large, large]

    run(scenario())


def test_sending_to_a_full_peer_queues_and_goes_on_in_order() -> None:
    async def scenario() -> None:
        async with connected(high_water_mark=4) as pair:
            pair.far.pause_reading()
            for number in range(100):
                pair.near.send([b"%03d" % number])
            assert pair.near.pending_bytes > 200
            pair.far.resume_reading()
            await wait_until_async(lambda: len(pair.messages) == 100, 5)
            assert pair.messages == [[b"%03d" % number] for number in range(100)]
            assert pair.near.pending_bytes == 0
            assert pair.drained >= 1

    run(scenario())


def test_a_paused_endpoint_delivers_nothing_until_it_is_resumed() -> None:
    async def scenario() -> None:
        async with connected() as pair:
            pair.far.pause_reading()
            pair.near.send([b"later"])
            await asyncio.sleep(0.05)
            assert pair.received == []
            pair.far.resume_reading()
            await wait_until_async(lambda: pair.messages == [[b"later"]], 5)

    run(scenario())


def test_a_failing_callback_does_not_stop_what_follows() -> None:
    async def scenario() -> None:
        async with connected() as pair:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            seen: list[int] = []

            def fail_once(batch: list[list[Buffer]]) -> None:
                seen.append(len(batch))
                if len(seen) == 1:
                    raise RuntimeError("once")

            pair.far._on_messages = fail_once
            for _ in range(BATCH_MESSAGES + 1):
                pair.near.send([b"x"])
            await wait_until_async(lambda: sum(seen) == BATCH_MESSAGES + 1, 5)

    run(scenario())


def test_closing_twice_and_sending_afterwards_is_harmless() -> None:
    async def scenario() -> None:
        async with connected() as pair:
            pair.near.close()
            pair.near.close()
            pair.near.send([b"x"])
            assert pair.near.pending_bytes == 0

    run(scenario())


@pytest.mark.parametrize("count", [1, 3])
def test_what_came_before_the_endpoint_was_made_is_delivered(count: int) -> None:
    async def scenario() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        near.bind("inproc://early")
        far.connect("inproc://early")
        for _ in range(count):
            near.send(b"early")
        received: list[list[list[Buffer]]] = []
        endpoint = ZmqEndpoint(far, received.append)
        await wait_until_async(lambda: sum(map(len, received)) == count, 5)
        endpoint.close()
        near.close()
        context.destroy(linger=0)

    run(scenario())
