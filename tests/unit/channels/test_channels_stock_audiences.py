"""Who a reply is for, after the client was away or its gateway was restarted."""

from __future__ import annotations

from clouditia_gateway.channels.stock_audience import Audience, Audiences


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def heard(audience: Audience, session: str) -> bool:
    return audience.concerns({"msg_id": "m", "session": session})


def test_a_client_that_was_away_is_recognised_by_the_session_of_its_messages() -> None:
    audiences = Audiences(Clock())
    audiences.of("k", "c", "url").asked("of-messages", "m")
    audiences.left("k", "c")
    again = audiences.of("k", "c", "url")
    assert heard(again, "of-messages")
    assert not heard(audiences.of("k", "other", "url2"), "of-messages")


def test_clients_that_are_away_are_forgotten_after_an_hour_and_those_that_are_here_never() -> None:
    clock = Clock()
    audiences = Audiences(clock)
    audiences.of("k", "here", "h")
    for name in ("gone", "back"):
        audiences.of("k", name, name).asked("of-messages", "m")
        audiences.left("k", name)
    audiences.of("k", "back", "back")
    clock.now = 3601.0
    assert not heard(audiences.of("k", "gone", "gone"), "of-messages")
    assert heard(audiences.of("k", "back", "back"), "of-messages")
    assert len(audiences) == 3


def test_only_so_many_clients_and_requests_are_kept() -> None:
    audiences = Audiences(Clock())
    for number in range(600):
        audience = audiences.of(f"k{number}", "c", "url")
        for request in range(300):
            audience.asked("", f"m{request}")
        audiences.left(f"k{number}", "c")
    assert len(audiences) == 500
    newest = audiences.of("k599", "c", "url")
    assert newest.concerns({"msg_id": "m299"})
    assert not newest.concerns({"msg_id": "m0"})


def test_a_client_of_a_restarted_gateway_hears_what_nobody_else_has_asked_for() -> None:
    audiences = Audiences(Clock())
    other = audiences.of("k", "other", "theirs")
    other.linked(0)
    heir = audiences.of("k", "heir", "url")
    heir.linked(3)
    assert heard(heir, "of-messages")
    assert not heard(heir, "theirs")
    assert not heard(other, "of-messages")


def test_a_pause_of_the_link_makes_nobody_an_heir() -> None:
    audience = Audience("url")
    audience.linked(0)
    audience.asked("of-messages", "m")
    audience.linked(1)
    assert not heard(audience, "another")
