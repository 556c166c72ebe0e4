"""Ending the remote kernel over REST, and the word that it has ended, whoever brings it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from clouditia.bridge.starting import end_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.rest import GatewayClient

__all__ = ["KernelEnd"]

log = logging.getLogger("clouditia.bridge")


class KernelEnd:
    """The end of one kernel.

    Args:
        connect_rest: Gives the gateway; called in a thread.

    Attributes:
        is_confirmed: Set when the kernel is known to have ended, by the link or by REST.
    """

    def __init__(self, connect_rest: Callable[[], GatewayClient]) -> None:
        self._connect_rest = connect_rest
        self._loop = asyncio.get_running_loop()
        self.is_confirmed = asyncio.Event()

    async def over_rest(self, kernel_id: str, patience_s: float) -> None:
        """Ask for the end, and wait a moment for it; the request goes on without us."""
        end_kernel(self._connect_rest, kernel_id, on_done=self._answered)
        try:
            await asyncio.wait_for(self.is_confirmed.wait(), patience_s)
        except TimeoutError:
            log.info("the end of the kernel was not confirmed within %.2f s", patience_s)

    def _answered(self, failure: BaseException | None) -> None:
        if failure is not None:
            log.info("DELETE of the kernel failed: %s", getattr(failure, "code", repr(failure)))
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self.is_confirmed.set)
