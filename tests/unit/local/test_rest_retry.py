"""Calls that are safe to repeat wait for a gateway that restarts, and no longer than they may."""

from __future__ import annotations

import threading

import pytest

from clouditia.errors import GatewayUnreachable, QuotaError
from clouditia.rest_retry import patiently


class Gateway:
    """Fails as often as it is told to; each attempt takes a second of its clock."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.attempts = 0
        self.now = 0.0

    def call(self) -> str:
        self.attempts += 1
        self.now += 1
        if self.failures:
            raise self.failures.pop(0)
        return "started"

    def clock(self) -> float:
        return self.now


def away(*, sent: bool = False, retryable: bool = True) -> GatewayUnreachable:
    return GatewayUnreachable("nobody there", retryable=retryable, details={"sent": sent})


def test_a_gateway_that_comes_back_in_time_is_all_that_is_seen() -> None:
    gateway = Gateway(away(), away(sent=True))
    assert patiently(gateway.call, 10, clock=gateway.clock) == "started"
    assert gateway.attempts == 3


def test_patience_ends_with_the_last_error_and_says_whether_anything_may_have_arrived() -> None:
    gateway = Gateway(away(sent=True), *[away() for _ in range(20)])
    with pytest.raises(GatewayUnreachable) as failed:
        patiently(gateway.call, 3, clock=gateway.clock)
    assert failed.value.details["sent"] is True
    assert gateway.attempts == 3


@pytest.mark.parametrize("answer", [QuotaError("no room"), away(retryable=False)])
def test_an_answer_and_what_no_attempt_can_mend_are_told_at_once(answer: Exception) -> None:
    gateway = Gateway(answer)
    with pytest.raises(type(answer)):
        patiently(gateway.call, 10, clock=gateway.clock)
    assert gateway.attempts == 1


def test_no_attempt_follows_once_it_is_given_up() -> None:
    given_up = threading.Event()
    given_up.set()
    gateway = Gateway(away(), away())
    with pytest.raises(GatewayUnreachable):
        patiently(gateway.call, 10, is_given_up=given_up, clock=gateway.clock)
    assert gateway.attempts == 1
