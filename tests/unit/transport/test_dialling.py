"""Connections over a network that swallows some attempts: the first that is through is taken."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.transport.pipe import run

from clouditia.errors import AuthenticationError, GatewayUnreachable
from clouditia.transport.dialling import first_to_open


class Opened:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Network:
    """Each attempt gets the next of ``outcomes``: an error, a connection, or None to hang."""

    def __init__(self, *outcomes: Exception | Opened | None) -> None:
        self.outcomes = list(outcomes)
        self.attempts = 0
        self.hanging = 0
        self.comes_back = asyncio.Event()

    async def attempt(self) -> Opened:
        outcome = self.outcomes[self.attempts]
        self.attempts += 1
        if outcome is None:
            self.hanging += 1
            try:
                await self.comes_back.wait()
            finally:
                self.hanging -= 1
            return Opened("late")
        if isinstance(outcome, Opened):
            return outcome
        raise outcome

    async def open(self) -> Opened:
        return await first_to_open(self.attempt, every_s=0.01)


def unreachable() -> GatewayUnreachable:
    return GatewayUnreachable("nobody listens", retryable=True)


def test_an_attempt_beside_one_that_hangs_is_taken_and_nothing_hangs_on() -> None:
    async def test() -> None:
        network = Network(None, None, Opened("third"))
        assert (await network.open()).name == "third"
        assert network.hanging == 0

    run(test)


def test_a_slow_attempt_that_is_through_after_all_is_taken() -> None:
    async def test() -> None:
        network = Network(*[None] * 100)
        opening = asyncio.create_task(network.open())
        while network.attempts < 3:
            await asyncio.sleep(0)
        network.comes_back.set()
        assert (await opening).name == "late"
        assert network.hanging == 0

    run(test)


def test_a_failure_counts_only_when_nothing_else_is_under_way() -> None:
    async def test() -> None:
        with pytest.raises(GatewayUnreachable):
            await Network(unreachable()).open()
        network = Network(None, unreachable(), Opened("third"))
        assert (await network.open()).name == "third"

    run(test)


def test_a_final_error_ends_it_at_once() -> None:
    async def test() -> None:
        network = Network(None, AuthenticationError("no"))
        with pytest.raises(AuthenticationError):
            await network.open()
        assert network.hanging == 0

    run(test)


def test_a_dial_that_is_cancelled_leaves_nothing_open() -> None:
    async def test() -> None:
        network = Network(None, None, None)
        opening = asyncio.create_task(network.open())
        while network.attempts < 2:
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        assert network.hanging == 0

    run(test)
