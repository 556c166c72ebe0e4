"""The kernels of this gateway, and who may touch them.

Ownership is checked here, where an object is handed out, and nowhere else: code that holds a
:class:`KernelRecord` has got it from :meth:`KernelRegistry.get_kernel` with a principal.

What must survive the gateway is in the store; what a host reports is kept in memory and learnt
again when the host dials in.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clouditia.errors import (
    AuthenticationError,
    GatewayUnreachable,
    KernelDied,
    KernelNotFound,
    LaunchTimeout,
    QuotaError,
    SessionError,
)
from clouditia_gateway.clock import iso_now
from clouditia_gateway.endings import not_found
from clouditia_gateway.engines.base import HostHealth
from clouditia_gateway.errors import DrainingError, StaleHostError, StorageError
from clouditia_gateway.kernel_model import kernel_model
from clouditia_gateway.launcher import checked_kernel_id, ref_of, sha256
from clouditia_gateway.records import HostState, KernelRecord, Presence, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clouditia_gateway.channels.hub import HostHub
    from clouditia_gateway.launcher import HostLauncher
    from clouditia_gateway.store import Store
    from clouditia_gateway.undertaker import Undertaker

__all__ = ["KernelRegistry", "StaleHostError"]

log = logging.getLogger("clouditia.gateway")

INTERRUPT_TIMEOUT_S = 10.0
RESTART_TIMEOUT_S = 60.0
#: How long a request waits for a host that should dial in.
CONNECT_TIMEOUT_S = 20.0
#: How long a DELETE waits for the kernel to be gone before it answers anyway.
SHUTDOWN_WAIT_S = 5.0
WATCH_EVERY_S = 1.0


class KernelRegistry:
    """Start, find, restart and end kernels."""

    def __init__(
        self,
        *,
        store: Store,
        hub: HostHub,
        launcher: HostLauncher,
        undertaker: Undertaker,
        kernels_per_user: int,
    ) -> None:
        self._store = store
        self._hub = hub
        self._launcher = launcher
        self._undertaker = undertaker
        self._kernels_per_user = kernels_per_user
        self._presence: dict[str, Presence] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._burials: dict[str, asyncio.Task[None]] = {}
        self._watch_task: asyncio.Task[None] | None = None
        self._is_draining = False

    # --- life of the gateway --------------------------------------------------------------------

    async def start(self) -> None:
        """Adopt the kernels of the last gateway on this state directory."""
        for record in self._store.kernels():
            if record.ended_at is not None:
                self._bury(record.kernel_id)
            else:
                # Its host will say; until then it may well be computing.
                state = HostState(execution_state="busy", last_activity=record.created_at)
                self._presence[record.kernel_id] = Presence(state)
        await self._check_hosts()
        self._watch_task = asyncio.create_task(self._watch(), name="watch kernel hosts")

    async def aclose(self) -> None:
        """Stop watching; kernels and their hosts live on, tombstones wait for the next gateway."""
        tasks = [*self._burials.values(), *([self._watch_task] if self._watch_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> int:
        """Take no new kernels and end all there are; returns how many that were."""
        self._is_draining = True
        records = self._store.live_kernels()
        for record in records:
            self._end(record)
        burials = list(self._burials.values())
        await asyncio.gather(*burials, return_exceptions=True)
        return len(records)

    @property
    def live_count(self) -> int:
        """How many kernels live, of all users, and how many are being ended."""
        return len(self._presence) + len(self._burials)

    # --- for REST and websocket handlers --------------------------------------------------------

    async def start_kernel(
        self,
        principal: Principal,
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        path: str = "",
        kernel_id: str | None = None,
    ) -> KernelRecord:
        """Record a new kernel, then launch its host; returns before the kernel is ready.

        Args:
            principal: Who will own it.
            name: Kernelspec; ``None`` for the gateway's default.
            env: Checked variables of the request.
            path: Path of the notebook or folder, as the front end sees it.
            kernel_id: Id that the client chose. A repeated call with the id of a kernel that the
                caller owns returns that kernel, so a lost answer can be asked for again.

        Raises:
            KernelNotFound: ``kernel_id`` is somebody else's.
            QuotaError: the user has as many kernels as allowed.
            DrainingError: the gateway is ending all kernels.
        """
        kernel_id = checked_kernel_id(kernel_id)
        if self._store.kernel(kernel_id) is not None:
            return self._own_kernel(kernel_id, principal)
        self._check_start(principal)
        presence = Presence(HostState(last_activity=iso_now()))
        self._presence[kernel_id] = presence
        try:
            async with self._locks[kernel_id]:  # nobody may take it for dead or end it halfway
                record, presence.ignored_env = await self._launcher.launch_new(
                    owner=principal.user, name=name, env=env or {}, path=path, kernel_id=kernel_id
                )
        except BaseException:
            self._presence.pop(kernel_id, None)
            self._locks.pop(kernel_id, None)
            raise
        return record

    def _own_kernel(self, kernel_id: str, principal: Principal) -> KernelRecord:
        record = self.get_kernel(kernel_id, principal)
        if record.owner != principal.user:  # an admin sees it, but did not start it
            raise SessionError(f"the kernel {kernel_id} exists and belongs to {record.owner}")
        return record

    def _check_start(self, principal: Principal) -> None:
        if self._is_draining:
            raise DrainingError("the gateway is ending all kernels and takes no new ones")
        count = self._store.count_live_kernels(principal.user)
        if count >= self._kernels_per_user:
            raise QuotaError(
                f"{principal.user} has {count} kernels, at most {self._kernels_per_user} are "
                "allowed",
                hint="Shut one down first: clouditia kernels list, clouditia kernels stop.",
                details={"limit": self._kernels_per_user, "used": count},
            )

    def get_kernel(self, kernel_id: str, principal: Principal) -> KernelRecord:
        """The kernel of that id.

        Raises:
            KernelNotFound: there is none, it was shut down, or it is somebody else's (an admin
                sees everybody's).
        """
        record = self._store.kernel(kernel_id)
        is_visible = record is not None and (principal.is_admin or record.owner == principal.user)
        if record is None or not is_visible or record.ended_at is not None:
            raise not_found(self._store, kernel_id, principal)
        return record

    def list_kernels(self, principal: Principal) -> list[KernelRecord]:
        """The principal's live kernels, oldest first (an admin's list holds everybody's)."""
        return [
            record
            for record in self._store.live_kernels()
            if principal.is_admin or record.owner == principal.user
        ]

    async def interrupt(self, kernel_id: str, principal: Principal) -> None:
        """Interrupt what the kernel runs.

        Raises:
            GatewayUnreachable: its host is away (HTTP 503).
        """
        self.get_kernel(kernel_id, principal)
        await self._hub.request(kernel_id, "interrupt", {}, timeout_s=INTERRUPT_TIMEOUT_S)

    async def restart(self, kernel_id: str, principal: Principal) -> KernelRecord:
        """Restart in place: same id and journal, next epoch.

        Raises:
            GatewayUnreachable: its host is away, but not known to be dead.
        """
        record = await self.ensure_host(self.get_kernel(kernel_id, principal))
        await self._hub.request(kernel_id, "restart", {}, timeout_s=RESTART_TIMEOUT_S)
        return record

    async def shutdown(self, kernel_id: str, principal: Principal) -> None:
        """End the kernel for good; returns when it is gone, or after 5 s in any case.

        The decision is durable at once: an unreachable host carries it out when it dials in.
        """
        burial = self._end(self.get_kernel(kernel_id, principal))
        await asyncio.wait({burial}, timeout=SHUTDOWN_WAIT_S)

    async def ensure_host(self, record: KernelRecord) -> KernelRecord:
        """Make sure that a host serves this kernel: wait for it, or launch one with the next fence.

        Returns:
            The record as it then is.

        Raises:
            GatewayUnreachable: a host exists but has not dialled in within 20 s (retryable).
            KernelDied: a host cannot be launched, or dies at once.
            KernelNotFound: the kernel was shut down meanwhile.
        """
        kernel_id = record.kernel_id
        if self._hub.is_connected(kernel_id):
            return record
        async with self._locks[kernel_id]:
            current = self._store.kernel(kernel_id)
            if current is None or current.ended_at is not None:
                raise KernelNotFound(f"there is no kernel {kernel_id}")
            if (await self._launcher.engine.status(ref_of(current))).health is HostHealth.DEAD:
                current = await self._launcher.relaunch(current)
            await self._wait_connected(current)
            return current

    async def _wait_connected(self, record: KernelRecord) -> None:
        """Wait for the host to dial in, but not longer than it lives."""
        deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT_S
        while True:
            try:
                await self._hub.wait_connected(record.kernel_id, WATCH_EVERY_S)
            except LaunchTimeout:
                pass
            else:
                return
            if (await self._launcher.engine.status(ref_of(record))).health is HostHealth.DEAD:
                raise KernelDied(
                    f"the host of kernel {record.kernel_id} died before it connected",
                    hint="Its host.log on the gateway says why.",
                )
            if asyncio.get_running_loop().time() > deadline:
                raise GatewayUnreachable(
                    f"the host of kernel {record.kernel_id} runs but did not connect within "
                    f"{CONNECT_TIMEOUT_S:g} s",
                    hint="Try again in a moment; the kernel is not affected.",
                    retryable=True,
                )

    # --- what clients see -----------------------------------------------------------------------

    def state(self, kernel_id: str) -> HostState:
        """The last state that the kernel's host reported (``starting`` before the first)."""
        return self._presence.get(kernel_id, Presence()).state

    def model(self, record: KernelRecord) -> dict[str, Any]:
        """The Jupyter kernel model with a ``clouditia`` part.

        A kernel whose host is away is shown as busy: it may be computing, and nobody can tell.
        """
        return kernel_model(record, self._presence.get(record.kernel_id) or Presence())

    # --- for the hub of kernel hosts ------------------------------------------------------------

    def authenticate_host(self, kernel_id: str, token: str) -> KernelRecord:
        """The kernel that this host token serves; tombstones count, their hosts must be told.

        Raises:
            AuthenticationError: the token is not one of this kernel's (close 4401).
            KernelNotFound: no such kernel (close 4404).
            StaleHostError: a newer host was launched (close 4409).
        """
        record = self._store.kernel(kernel_id)
        if record is None:
            raise KernelNotFound(f"there is no kernel {kernel_id[:64]}")
        digest = sha256(token)
        if hmac.compare_digest(digest, record.token_sha256):
            return record
        fence = self._store.host_token_fence(kernel_id, digest)
        if fence is not None:
            raise StaleHostError(
                f"host {fence} of kernel {kernel_id} was replaced by host {record.fence}"
            )
        raise AuthenticationError(f"this is no host token of kernel {kernel_id}")

    def host_connected(self, kernel_id: str, state: HostState) -> None:
        """The host's hello was accepted."""
        self._presence.get(kernel_id, Presence()).is_reachable = True
        self.state_changed(kernel_id, state)

    def state_changed(self, kernel_id: str, state: HostState) -> None:
        """The host reported a new state; a kernel that a client has shut down ends here."""
        if (presence := self._presence.get(kernel_id)) is not None:
            presence.state = state
            if state.has_ended:
                self._end_ended(kernel_id, state.ended_because)

    def host_lost(self, kernel_id: str) -> None:
        """The host's control connection ended; says nothing about the kernel."""
        presence = self._presence.get(kernel_id)
        if presence is not None:
            presence.is_reachable = False

    # --- inside ---------------------------------------------------------------------------------

    def _end(self, record: KernelRecord, because: str = "") -> asyncio.Task[None]:
        """Set the tombstone and carry it out in the background."""
        self._store.end_kernel(record.kernel_id, iso_now(), because)
        self._presence.pop(record.kernel_id, None)
        return self._bury(record.kernel_id)

    def _end_ended(self, kernel_id: str, because: str) -> None:
        """A kernel has ended by itself: forget it, now or as soon as that can be written down."""
        record = self._store.kernel(kernel_id)
        if record is not None:
            try:
                self._end(record, because)
            except StorageError as exc:
                log.warning("the end of kernel %s is written down later: %s", kernel_id, exc)

    def _bury(self, kernel_id: str) -> asyncio.Task[None]:
        task = self._burials.get(kernel_id)
        if task is None:
            task = asyncio.create_task(self._bury_locked(kernel_id), name=f"end {kernel_id}")
            self._burials[kernel_id] = task
            task.add_done_callback(lambda done: self._buried(kernel_id, done))
        return task

    async def _bury_locked(self, kernel_id: str) -> None:
        async with self._locks[kernel_id]:
            await self._undertaker.bury(kernel_id)

    def _buried(self, kernel_id: str, task: asyncio.Task[None]) -> None:
        self._burials.pop(kernel_id, None)
        self._locks.pop(kernel_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("kernel %s could not be ended: %s", kernel_id, error, exc_info=error)

    async def _watch(self) -> None:
        """Look at the hosts that are away, once a second."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self._check_hosts()
            except Exception:  # a border: one bad look must not end the watching
                log.exception("could not look at the kernel hosts")

    async def _check_hosts(self) -> None:
        for kernel_id, presence in list(self._presence.items()):
            if presence.state.has_ended:
                self._end_ended(kernel_id, presence.state.ended_because)
                continue
            if presence.is_reachable or presence.state.execution_state == "dead":
                continue
            record = self._store.kernel(kernel_id)
            # A held lock: it is being launched or ended right now.
            if record is None or self._locks[kernel_id].locked():
                continue
            status = await self._launcher.engine.status(ref_of(record))
            if status.health is HostHealth.DEAD and self._presence.get(kernel_id) is presence:
                await self._found_dead(record, presence, status.reason)

    async def _found_dead(self, record: KernelRecord, presence: Presence, reason: str) -> None:
        log.warning("kernel %s: %s", record.kernel_id, reason)
        presence.state = replace(
            presence.state, execution_state="dead", reason=reason, last_activity=iso_now()
        )
        await self._launcher.engine.stop(ref_of(record))
