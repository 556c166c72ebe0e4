"""Ends a kernel that nobody uses, where somebody has set a limit: the shell round ``lifespan``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from clouditia.errors import SessionError
from clouditia_gateway.clock import iso
from clouditia_gateway.host.activity import BUSY, RESTARTING, STARTING, Activity
from clouditia_gateway.host.lifespan import (
    Kept,
    Lifespan,
    Limit,
    Overdue,
    Policy,
    Warned,
    duration,
    unused,
)

log = logging.getLogger("clouditia.host")

_LOOK_EVERY_S = 1.0
_WORKS = frozenset((BUSY, STARTING, RESTARTING))


class Kernel(Protocol):
    """What is needed of the supervisor."""

    activity: Activity
    ended: asyncio.Event

    def announce(self, text: str) -> None:
        """Write a line into the kernel's output."""
        ...

    async def shutdown(self, *, because: str = "") -> None:
        """End the kernel for good."""
        ...


class Retirement:
    """Looks once a second.

    Args:
        kernel: What may be ended.
        own_ttl_s: ``detached_ttl`` that the kernel's owner asked for, 0 for none.
        policy: What the gateway says about all kernels; None while it is away.
        clients: How many are connected.
        now_ns: The clock for what people read.
        on_state: Called when :meth:`state` has changed.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        own_ttl_s: float,
        policy: Callable[[], Policy | None],
        clients: Callable[[], int],
        now_ns: Callable[[], int],
        on_state: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._own_ttl_s = own_ttl_s
        self._policy = policy
        self._clients = clients
        self._now_ns = now_ns
        self._on_state = on_state
        self._lifespan = Lifespan(_monotonic())
        self._last_activity_ns = 0
        self._ends_at: str | None = None

    def state(self) -> dict[str, Any]:
        """What STATE says of it: the limits, and when the kernel ends if nobody comes."""
        policy = self._policy()
        known = self._lifespan.limits if policy is None else policy.limits(self._own_ttl_s)
        limits = {limit.name: limit.seconds for limit in known}
        return {"limits": limits or None, "ends_at": self._ends_at}

    async def run(self) -> None:
        """Look until the kernel was shut down."""
        while not self._kernel.ended.is_set():
            await asyncio.sleep(self._pause_s())
            await self._look()
        await asyncio.Event().wait()  # what is to be told now is others' business

    def _pause_s(self) -> float:
        seconds = [limit.seconds / 20 for limit in self._lifespan.limits]
        return min([_LOOK_EVERY_S, *seconds])

    async def _look(self) -> None:
        policy = self._policy()
        if policy is not None:
            self._follow(policy)
        activity = self._kernel.activity
        if activity.last_activity_ns != self._last_activity_ns:
            self._last_activity_ns = activity.last_activity_ns
            self._lifespan.used()
        for word in self._lifespan.look(
            _monotonic(),
            is_busy=activity.execution_state in _WORKS,
            clients=self._clients(),
            is_reachable=policy is not None,
        ):
            await self._act(word)

    def _follow(self, policy: Policy) -> None:
        limits = policy.limits(self._own_ttl_s)
        if limits != self._lifespan.limits:
            self._lifespan.set_limits(limits)
            self._on_state()

    async def _act(self, word: Warned | Overdue | Kept) -> None:
        if isinstance(word, Overdue):
            why = unused(word.limit)
            log.warning("the kernel is ended: %s", why)
            try:
                await self._kernel.shutdown(because=why)
            except SessionError as exc:  # it hangs inside the system; the next look tries again
                log.warning("that failed: %s", exc.message)
            return
        if isinstance(word, Warned):
            now = datetime.fromtimestamp(self._now_ns() / 1e9, UTC)
            self._ends_at = iso(now + timedelta(seconds=word.left_s))
            text = (
                f"this kernel will be ended in {duration(word.left_s)}: {unused(word.limit)}. "
                f"To keep it, {_to_keep(word.limit)}."
            )
        else:
            self._ends_at = None
            text = "this kernel is used again; it will not be ended."
        self._kernel.announce(f"[clouditia] {text}\n")
        self._on_state()


def _to_keep(limit: Limit) -> str:
    if limit.counts_clients:
        return "open its notebook, or run: clouditia attach KERNEL"
    return "run a cell"


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
