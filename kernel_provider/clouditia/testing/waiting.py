"""Waiting for a named state; tests never sleep for a fixed time and hope."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_never = threading.Event()


def wait_until(
    predicate: Callable[[], T], timeout_s: float, *, what: str = "", interval_s: float = 0.02
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Args:
        predicate: Called every ``interval_s``; what it raises is raised here.
        timeout_s: Seconds until giving up.
        what: The awaited state in words, for the message.
        interval_s: Seconds between two calls.

    Raises:
        AssertionError: The state was not reached in time; names it and what was seen last.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, timeout_s, what, value))
        _never.wait(interval_s)
    return value


async def wait_until_async(
    predicate: Callable[[], T], timeout_s: float, *, what: str = "", interval_s: float = 0.01
) -> T:
    """:func:`wait_until` for a running event loop, which it does not block."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, timeout_s, what, value))
        await asyncio.sleep(interval_s)
    return value


def _complaint(predicate: object, timeout_s: float, what: str, last_seen: object) -> str:
    name = what or getattr(predicate, "__qualname__", repr(predicate))
    return f"waited {timeout_s:g} s for: {name}; last seen: {last_seen!r}"
