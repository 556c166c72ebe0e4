"""Signals as calls on the event loop."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["on_signals"]


def on_signals(loop: asyncio.AbstractEventLoop, **actions: Callable[[], None]) -> None:
    """Call an action on ``loop`` for each signal; ``loop.add_signal_handler`` is not on Windows.

    Args:
        loop: Runs in the main thread.
        **actions: By name of the signal; names that the platform lacks (SIGHUP) are left out.
    """
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is not None:
            _install(loop, number, action)


def _install(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, action: Callable[[], None]
) -> None:
    signal.signal(number, lambda *_: loop.call_soon_threadsafe(action))
