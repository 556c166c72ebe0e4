"""Who waits for a gateway is told so: once, where they look, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from clouditia.bridge.notices import AWAY, STARTING, WaitNotice


@dataclass
class Timer:
    due: float
    action: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Clock:
    """The two methods of a loop that the notice uses."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay, action))
        return self.timers[-1]

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [each for each in self.timers if each.due <= end and not each.is_cancelled]:
            timer = min(due, key=lambda each: each.due)
            self.timers.remove(timer)
            self.now = timer.due
            timer.action()
        self.now = end


@dataclass
class Person:
    """A front end with or without a cell that waits."""

    has_cell: bool = True
    read: list[str] = field(default_factory=list)

    def tell(self, text: str) -> bool:
        if self.has_cell:
            self.read.append(text)
        return self.has_cell


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def notice(clock: Clock, person: Person) -> WaitNotice:
    return WaitNotice(cast("asyncio.AbstractEventLoop", clock), "gateway 'lab'", person.tell)


def test_a_short_outage_is_nobodys_business(
    clock: Clock, person: Person, notice: WaitNotice, capsys: pytest.CaptureFixture[str]
) -> None:
    notice.begin(AWAY)
    clock.pass_time(1.9)
    notice.end()
    clock.pass_time(100)
    assert (person.read, capsys.readouterr().err) == ([], "")


def test_a_waiting_cell_is_told_once_and_when_it_is_over(
    clock: Clock, person: Person, notice: WaitNotice, capsys: pytest.CaptureFixture[str]
) -> None:
    notice.begin(AWAY)
    clock.pass_time(29)
    assert person.read == [f"gateway 'lab' {AWAY} (2 s so far)."]
    assert capsys.readouterr().err == ""
    clock.pass_time(31)
    notice.end()
    assert person.read[1:] == ["gateway 'lab' is back after 60 s."]
    assert "30 s so far" in capsys.readouterr().err


def test_a_cell_that_is_run_during_the_outage_is_told_too(
    clock: Clock, person: Person, notice: WaitNotice
) -> None:
    person.has_cell = False
    notice.begin(AWAY)
    clock.pass_time(300)
    person.has_cell = True
    clock.pass_time(2)
    assert len(person.read) == 1


def test_a_kernel_may_take_its_time_to_start(
    clock: Clock, person: Person, notice: WaitNotice
) -> None:
    notice.begin(STARTING)
    clock.pass_time(9)
    assert person.read == []
    clock.pass_time(1)
    assert person.read == [f"gateway 'lab' {STARTING} (10 s so far)."]


def test_a_start_that_goes_on_as_an_outage_is_one_wait(
    clock: Clock, person: Person, notice: WaitNotice
) -> None:
    notice.begin(STARTING)
    clock.pass_time(8)
    notice.begin(AWAY)
    clock.pass_time(2)
    assert person.read == [f"gateway 'lab' {AWAY} (10 s so far)."]


def test_the_next_outage_is_told_again(clock: Clock, person: Person, notice: WaitNotice) -> None:
    for _ in range(2):
        notice.begin(AWAY)
        clock.pass_time(10)
        notice.end()
    assert len(person.read) == 4


def test_a_bridge_that_leaves_says_nothing_more(
    clock: Clock, person: Person, notice: WaitNotice
) -> None:
    notice.begin(AWAY)
    notice.cancel()
    clock.pass_time(100)
    assert person.read == []


def test_nothing_is_left_to_do_once_all_is_told(
    clock: Clock, notice: WaitNotice, capsys: pytest.CaptureFixture[str]
) -> None:
    notice.begin(AWAY)
    clock.pass_time(3600)
    assert clock.timers == []
    assert capsys.readouterr().err.count("so far") == 1
