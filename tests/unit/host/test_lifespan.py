"""When a kernel that nobody uses is ended: the machine, second by second."""

from __future__ import annotations

from typing import Any

import pytest

from clouditia_gateway.host.lifespan import (
    DETACHED,
    GRACE_S,
    IDLE,
    WARNED_BEFORE_S,
    Kept,
    Lifespan,
    Limit,
    Overdue,
    Policy,
    Warned,
    duration,
    unused,
)

HOUR = 3600.0
TTL = Limit(DETACHED, HOUR)


class Life:
    """A kernel whose surroundings a test sets, looked at as time goes by."""

    def __init__(self, *limits: Limit) -> None:
        self.now = 1000.0
        self.machine = Lifespan(self.now)
        self.machine.set_limits(limits)
        self.facts: dict[str, Any] = {"is_busy": False, "clients": 0, "is_reachable": True}
        self.look()

    def look(self, **facts: Any) -> list[Any]:
        self.facts |= facts
        return self.machine.look(self.now, **self.facts)

    def passes(
        self, seconds: float, *, every_s: float = 1.0, **facts: Any
    ) -> list[tuple[float, Any]]:
        """What was said when, in seconds from now."""
        self.look(**facts)
        said: list[tuple[float, Any]] = []
        start = self.now
        while self.now < start + seconds:
            self.now += every_s
            said += [(self.now - start, word) for word in self.look()]
        return said


def words(said: list[tuple[float, Any]]) -> list[tuple[float, type]]:
    return [(at, type(word)) for at, word in said]


def ends(said: list[tuple[float, Any]]) -> float:
    """When the first limit was reached."""
    return next(at for at, word in said if isinstance(word, Overdue))


def test_without_a_limit_nothing_ever_happens() -> None:
    assert Life().passes(10 * HOUR, every_s=60) == []


def test_a_kernel_that_nobody_uses_is_warned_and_then_ended() -> None:
    said = Life(TTL).passes(HOUR)
    assert words(said) == [(HOUR - WARNED_BEFORE_S, Warned), (HOUR, Overdue)]
    assert said[0][1] == Warned(TTL, WARNED_BEFORE_S)
    assert said[1][1] == Overdue(TTL)


def test_a_short_limit_is_announced_a_quarter_before() -> None:
    assert words(Life(Limit(IDLE, 8.0)).passes(8)) == [(6, Warned), (8, Overdue)]


def test_until_it_has_ended_the_end_is_said_again() -> None:
    said = Life(Limit(IDLE, 4.0)).passes(6)
    assert words(said) == [(3, Warned), (4, Overdue), (5, Overdue), (6, Overdue)]


@pytest.mark.parametrize("use", [{"is_busy": True}, {"clients": 1}])
def test_work_and_clients_are_use_and_the_time_begins_anew_after_them(use: dict[str, Any]) -> None:
    life = Life(TTL)
    life.passes(HOUR / 2)
    assert life.passes(10 * HOUR, every_s=60, **use) == []
    assert ends(life.passes(HOUR, is_busy=False, clients=0)) == HOUR


def test_a_message_between_two_looks_is_use_once() -> None:
    life = Life(TTL)
    life.passes(HOUR / 2)
    life.machine.used()
    said = words(life.passes(HOUR + 1))
    assert said[0][0] == HOUR - WARNED_BEFORE_S
    assert said[1] == (HOUR, Overdue)


def test_an_operator_may_count_clients_out() -> None:
    said = Life(Limit(IDLE, HOUR, counts_clients=False)).passes(HOUR, clients=3)
    assert ends(said) == HOUR
    assert Life(Limit(IDLE, HOUR, counts_clients=False)).passes(HOUR, is_busy=True) == []


def test_whoever_comes_after_the_warning_keeps_the_kernel_and_is_warned_again_another_time() -> (
    None
):
    life = Life(TTL)
    life.passes(HOUR - 10)
    assert life.look(clients=1) == [Kept()]
    assert life.look() == []
    assert words(life.passes(HOUR, clients=0)) == [
        (HOUR - WARNED_BEFORE_S, Warned),
        (HOUR, Overdue),
    ]


def test_time_without_the_gateway_does_not_count() -> None:
    life = Life(TTL)
    life.passes(HOUR / 4)
    assert life.passes(100 * HOUR, every_s=60, is_reachable=False) == []
    assert words(life.passes(HOUR, is_reachable=True))[:2] == [
        (HOUR * 3 / 4 - WARNED_BEFORE_S, Warned),
        (HOUR * 3 / 4, Overdue),
    ]


def test_the_look_that_finds_the_gateway_back_does_not_count_the_time_before() -> None:
    life = Life(TTL)
    life.look(is_reachable=False)
    life.now += 10 * HOUR
    assert life.look(is_reachable=True) == []
    assert ends(life.passes(HOUR)) == HOUR


def test_the_look_that_finds_the_gateway_gone_does_not_count_the_time_before() -> None:
    life = Life(TTL)
    life.now += HOUR / 2
    life.look(is_reachable=False)
    assert ends(life.passes(HOUR, is_reachable=True)) == HOUR


def test_when_the_gateway_is_back_there_is_a_grace() -> None:
    life = Life(TTL)
    life.passes(HOUR - 10)
    assert life.passes(60, is_reachable=False) == []
    assert words(life.passes(GRACE_S, is_reachable=True)) == [(GRACE_S, Overdue)]


def test_the_grace_of_a_short_limit_is_all_of_it() -> None:
    life = Life(Limit(IDLE, 8.0))
    life.passes(5)
    life.look(is_reachable=False)
    assert words(life.passes(8, is_reachable=True)) == [(6, Warned), (8, Overdue)]


def test_nothing_ends_while_the_gateway_is_away() -> None:
    life = Life(Limit(IDLE, 8.0))
    assert ends(life.passes(8)) == 8
    life.now += 1
    assert life.look(is_reachable=False) == []


def test_a_look_that_comes_late_warns_first_and_leaves_the_whole_time() -> None:
    life = Life(TTL)
    life.now += 10 * HOUR
    assert life.look() == [Warned(TTL, WARNED_BEFORE_S)]
    assert words(life.passes(WARNED_BEFORE_S)) == [(WARNED_BEFORE_S, Overdue)]


def test_limits_that_change_keep_what_was_counted() -> None:
    life = Life(TTL)
    life.passes(HOUR / 2)
    life.machine.set_limits((Limit(DETACHED, 2 * HOUR), Limit(IDLE, HOUR)))
    said = life.passes(HOUR * 3 / 2)
    ends = {word.limit.name: at for at, word in reversed(said) if isinstance(word, Overdue)}
    assert ends == {DETACHED: HOUR * 3 / 2, IDLE: HOUR}


def test_a_limit_that_comes_again_warns_again() -> None:
    life = Life(TTL)
    life.passes(HOUR - 10)
    life.machine.set_limits(())
    assert life.look() == []
    life.machine.set_limits((TTL,))
    assert words(life.passes(HOUR)) == [(HOUR - WARNED_BEFORE_S, Warned), (HOUR, Overdue)]


# --- whose limits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "own_ttl_s", "limits"),
    [
        (Policy(), 0, []),
        (Policy(cull_idle_timeout_s=5), 0, [(IDLE, 5, True)]),
        (Policy(cull_idle_timeout_s=5, cull_connected=True), 0, [(IDLE, 5, False)]),
        (Policy(detached_ttl_s=7), 0, [(DETACHED, 7, True)]),
        (Policy(detached_ttl_s=7), 9, [(DETACHED, 9, True)]),
        (Policy(detached_ttl_s=7, max_detached_ttl_s=8), 0, [(DETACHED, 7, True)]),
        (Policy(max_detached_ttl_s=8), 0, [(DETACHED, 8, True)]),
        (Policy(max_detached_ttl_s=8), 100, [(DETACHED, 8, True)]),
        (Policy(), 9, [(DETACHED, 9, True)]),
        (Policy(5, detached_ttl_s=7), 0, [(IDLE, 5, True), (DETACHED, 7, True)]),
    ],
)
def test_the_owner_asks_within_what_the_gateway_allows(
    policy: Policy, own_ttl_s: float, limits: list[tuple[str, float, bool]]
) -> None:
    assert [tuple(limit) for limit in policy.limits(own_ttl_s)] == limits
    assert Policy.from_wire(policy.to_wire()) == policy


@pytest.mark.parametrize(
    "wire",
    [None, [], "x", {}, {"cull_idle_timeout_s": -1}, {"detached_ttl_s": True}, {"new": 1},
     {"cull_idle_timeout_s": "5", "cull_connected": 1}],
)  # fmt: skip
def test_what_a_gateway_says_wrongly_sets_no_limit(wire: object) -> None:
    assert Policy.from_wire(wire) == Policy()


def test_limits_are_told_in_words() -> None:
    assert duration(45) == "45 s"
    assert duration(900) == "15 min"
    assert duration(2.5 * HOUR) == "2.5 h"
    assert duration(7 * 86400) == "7 days"
    assert "no work and no client" in unused(TTL)
    assert "detached_ttl" in unused(TTL)
    culled = unused(Limit(IDLE, 60.0, counts_clients=False))
    assert "no client" not in culled
    assert "cull_idle_timeout" in culled
