"""Repeating a REST call that is safe to repeat, while a gateway restarts or a network flickers.

Safe are reads, the start of a kernel under an id of our own, and the end of a kernel; not an
interrupt, which might meet the next cell.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from clouditia.errors import GatewayUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["patiently"]

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


def patiently(
    call: Callable[[], T],
    patience_s: float,
    *,
    is_given_up: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return what ``call`` returns; repeat it while the gateway cannot be reached.

    Args:
        call: Raises GatewayUnreachable if there was no answer.
        patience_s: Seconds after which no further attempt is made.
        is_given_up: Set by whoever wants no further attempt; a pause ends at once then.
        clock: Monotonic seconds.

    Raises:
        GatewayUnreachable: that of the last attempt; ``details["sent"]`` says whether any attempt
            may have arrived.
    """
    is_given_up = is_given_up or threading.Event()
    deadline, pause_s, may_have_arrived = clock() + patience_s, _FIRST_PAUSE_S, False
    while True:
        try:
            return call()
        except GatewayUnreachable as exc:
            may_have_arrived = may_have_arrived or bool(exc.details.get("sent"))
            exc.details["sent"] = may_have_arrived
            pause_s = min(pause_s, deadline - clock())
            if not exc.retryable or pause_s <= 0 or is_given_up.wait(pause_s * _spread()):
                raise
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _spread() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311  (spreads clients, hides nothing)
