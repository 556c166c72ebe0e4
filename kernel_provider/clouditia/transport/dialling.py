"""Opening a connection over a network that may have just come back.

An attempt that was begun while the network swallowed everything may hang for seconds after it is
back, because the system repeats its first packet ever more rarely. So another attempt is begun
beside one that hangs, and the first that is through is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from clouditia.errors import ClouditiaError
from clouditia.transport.retrying import final_error

__all__ = ["NEXT_ATTEMPT_S", "first_to_open"]

#: A healthy network answers sooner, also over TLS and a satellite.
NEXT_ATTEMPT_S = 1.2


class _Closable(Protocol):
    async def close(self) -> None: ...


_T = TypeVar("_T", bound=_Closable)


async def first_to_open(
    attempt: Callable[[], Awaitable[_T]], *, every_s: float = NEXT_ATTEMPT_S
) -> _T:
    """The first connection that is open, of attempts that begin ``every_s`` seconds apart.

    An attempt has its own time limit. A failure counts when it is final, or when no other attempt
    is under way.

    Raises:
        ClouditiaError: what the attempt failed with.
    """
    attempts: set[asyncio.Future[_T]] = set()
    try:
        while True:
            attempts.add(asyncio.ensure_future(attempt()))
            done, attempts = await asyncio.wait(
                attempts, timeout=every_s, return_when=asyncio.FIRST_COMPLETED
            )
            opened = [task.result() for task in done if task.exception() is None]
            for spare in opened[1:]:
                await spare.close()
            if opened:
                return opened[0]
            for task in done:
                _raise_if_it_counts(task, is_last=not attempts)
    finally:
        await _abandon(attempts)


def _raise_if_it_counts(failed: asyncio.Future[_T], *, is_last: bool) -> None:
    error = failed.exception()
    if error is None:
        return
    if is_last or not isinstance(error, ClouditiaError) or final_error(error) is not None:
        raise error


async def _abandon(attempts: set[asyncio.Future[_T]]) -> None:
    for task in attempts:
        task.cancel()
    for task in attempts:
        with suppress(asyncio.CancelledError, ClouditiaError):
            await (await task).close()  # it was through at the very moment when it was cancelled
