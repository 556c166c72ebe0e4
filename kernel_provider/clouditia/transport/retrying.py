"""When to connect again: the pauses between attempts, and the errors that no attempt can mend."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from clouditia.errors import (
    AuthenticationError,
    ClouditiaError,
    ConfigError,
    ConnectionLostError,
    KernelNotFound,
    PermissionDeniedError,
    ProtocolError,
)
from clouditia.transport.link_runner import TransportClosed

_FIRST_DELAY_S = 0.25
#: Whoever waits for the end of an outage should see it within 2 s; after a while nobody waits.
_LONGEST_DELAY_S = 1.2
_PATIENT_AFTER_S = 900.0
_LONGEST_PATIENT_DELAY_S = 10.0
#: Websocket close codes after which trying again is no use, and what they mean.
_FINAL_CLOSE_CODES: dict[int, type[ClouditiaError]] = {
    4401: AuthenticationError,
    4403: PermissionDeniedError,
    4404: KernelNotFound,
    4410: KernelNotFound,
    4001: ConnectionLostError,  # another connection took this client's place
}
_FINAL_ERRORS = (
    AuthenticationError,
    PermissionDeniedError,
    KernelNotFound,
    ConfigError,
    ProtocolError,
)


class Backoff:
    """Pauses that double from 0.25 s to 1.2 s, shortened at random so that clients spread.

    In the first quarter of an hour of an outage; after that they go on doubling to 10 s.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.delay_s = _FIRST_DELAY_S
        self._since: float | None = None
        self._hurry = asyncio.Event()

    def reset(self) -> None:
        """It worked: begin with the shortest pause again."""
        self.delay_s = _FIRST_DELAY_S
        self._since = None

    def hurry(self) -> None:
        """End a pause that is under way, as after a wake-up from sleep."""
        self._hurry.set()

    async def pause(self) -> None:
        """Wait for the next attempt."""
        delay = self.delay_s * random.uniform(0.5, 1.0)  # noqa: S311  (spreads reconnects)
        self.delay_s = min(2 * self.delay_s, self._longest_s())
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay)

    def _longest_s(self) -> float:
        now = self._clock()
        self._since = now if self._since is None else self._since
        is_long = now - self._since >= _PATIENT_AFTER_S
        return _LONGEST_PATIENT_DELAY_S if is_long else _LONGEST_DELAY_S


def final_error(ended: ClouditiaError) -> ClouditiaError | None:
    """The error to give up with, or None to try again."""
    if isinstance(ended, TransportClosed):
        kind = _FINAL_CLOSE_CODES.get(ended.close_code)
        return kind(ended.message) if kind is not None else None
    if isinstance(ended, _FINAL_ERRORS):
        return ended
    if isinstance(ended, ConnectionLostError) and ended.retryable:
        return None
    return ended
