"""The gateway's time of day: a jump of the system's clock is no reason to believe it."""

from __future__ import annotations

import pytest

from clouditia_gateway.clock import BELIEVED_AFTER_S, TrustedClock

HOUR, DAY = 3600.0, 86400.0
START = 1_700_000_000.0


class Clocks:
    """Both clocks of a machine; the wall clock can be set."""

    def __init__(self) -> None:
        self.steady_s, self.wall_s = 50.0, START
        self.trusted = TrustedClock(self.wall_s, self.steady_s)

    def pass_s(self, seconds: float, *, every_s: float = 60.0) -> float:
        for _ in range(int(seconds / every_s)):
            self.steady_s += every_s
            self.wall_s += every_s
            self.read()
        return self.read()

    def read(self) -> float:
        return self.trusted.read(self.wall_s, self.steady_s)


def test_it_goes_with_the_wall_clock() -> None:
    clocks = Clocks()
    assert clocks.pass_s(DAY) == START + DAY


def test_small_corrections_are_followed_at_once() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.wall_s += 4
        clocks.pass_s(60)
    assert clocks.read() == clocks.wall_s


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR, DAY, -DAY])
def test_a_jump_that_is_taken_back_was_never_believed(jump_s: float) -> None:
    clocks = Clocks()
    clocks.wall_s += jump_s
    assert clocks.read() == START
    assert clocks.pass_s(HOUR / 2) == START + HOUR / 2
    clocks.wall_s -= jump_s
    assert clocks.pass_s(2 * HOUR) == START + 2.5 * HOUR
    clocks.wall_s += jump_s  # the next one has an hour of its own
    assert clocks.pass_s(HOUR - 120) == START + 3.5 * HOUR - 120


@pytest.mark.parametrize("jump_s", [DAY, -DAY])
def test_a_jump_that_lasts_is_believed_after_an_hour(jump_s: float) -> None:
    clocks = Clocks()
    clocks.wall_s += jump_s
    clocks.read()
    assert clocks.pass_s(BELIEVED_AFTER_S - 60) == START + HOUR - 60
    assert clocks.pass_s(60) == START + HOUR + jump_s
    assert clocks.pass_s(HOUR) == clocks.wall_s


def test_jumps_that_follow_each_other_are_waited_for_one_by_one() -> None:
    clocks = Clocks()
    for _ in range(5):
        clocks.wall_s += HOUR
        clocks.pass_s(HOUR / 2)
    assert clocks.read() == START + 2.5 * HOUR
