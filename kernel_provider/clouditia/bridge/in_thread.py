"""One blocking call in a daemon thread: whoever cannot wait for it may leave."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread"]

T = TypeVar("T")


def in_thread(work: Callable[[], T], name: str) -> concurrent.futures.Future[T]:
    """Start ``work`` at once; the future gives its result or its error.

    A pool would do, were it not that the interpreter waits for a pool's threads at its end.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # from here on a waiter cannot cancel it

    def run() -> None:
        try:
            result = work()
        except BaseException as exc:  # noqa: BLE001  (the border of a thread: the waiter raises it)
            future.set_exception(exc)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
