"""The kernel registry with an audit log: what happens to kernels, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clouditia.errors import AuthenticationError, KernelNotFound, QuotaError
from clouditia_gateway.registry import KernelRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clouditia_gateway.audit.log import Recorder
    from clouditia_gateway.records import HostState, KernelRecord, Principal


class AuditedRegistry(KernelRegistry):
    """As :class:`KernelRegistry`; ``audit`` hears of every start, end and refusal."""

    def __init__(self, *, audit: Recorder, **parts: Any) -> None:
        super().__init__(**parts)
        self._audit = audit

    async def start_kernel(
        self,
        principal: Principal,
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        path: str = "",
        kernel_id: str | None = None,
    ) -> KernelRecord:
        """Start a kernel and say by whom."""
        known = kernel_id is not None and self._store.kernel(kernel_id) is not None
        try:
            record = await super().start_kernel(
                principal, name=name, env=env, path=path, kernel_id=kernel_id
            )
        except QuotaError as exc:
            self._audit.refused("limit_reached", **by(principal), limit=exc.message)
            raise
        if not known:
            self._audit.record(
                "kernel_started", **by(principal), kernel_id=record.kernel_id, kernel=record.name
            )
        return record

    def get_kernel(self, kernel_id: str, principal: Principal) -> KernelRecord:
        """The kernel of that id; asking for somebody else's is noted, though the answer is 404."""
        try:
            return super().get_kernel(kernel_id, principal)
        except KernelNotFound:
            record = self._store.kernel(kernel_id)
            if record is not None and record.ended_at is None:
                self._audit.refused(
                    "permission_refused",
                    **by(principal),
                    kernel_id=record.kernel_id,
                    owner=record.owner,
                )
            raise

    async def restart(self, kernel_id: str, principal: Principal) -> KernelRecord:
        """Restart in place."""
        record = await super().restart(kernel_id, principal)
        self._audit.record("kernel_restarted", **by(principal), kernel_id=kernel_id)
        return record

    async def shutdown(self, kernel_id: str, principal: Principal) -> None:
        """End a kernel for good."""
        record = self.get_kernel(kernel_id, principal)
        self._audit.record(
            "kernel_ended", **by(principal), kernel_id=record.kernel_id, owner=record.owner
        )
        await super().shutdown(kernel_id, principal)

    async def drain(self) -> int:
        """End all kernels."""
        for record in self._store.live_kernels():
            self._audit.record(
                "kernel_ended", kernel_id=record.kernel_id, owner=record.owner, why="drained"
            )
        return await super().drain()

    def state_changed(self, kernel_id: str, state: HostState) -> None:
        """A client may end a kernel over its link, and a kernel may die: told once."""
        before = self.state(kernel_id)
        record = self._store.kernel(kernel_id)
        if record is not None and record.ended_at is None and before != state:
            self._note_end(record, before, state)
        super().state_changed(kernel_id, state)

    def _note_end(self, record: KernelRecord, before: HostState, state: HostState) -> None:
        if state.execution_state != "dead" or before.execution_state == "dead":
            return
        event = "kernel_ended" if state.has_ended else "kernel_died"
        why = "by a client of it" if state.has_ended else state.reason
        self._audit.record(event, kernel_id=record.kernel_id, owner=record.owner, why=why)

    async def _found_dead(self, record: KernelRecord, *args: Any) -> None:
        self._audit.record(
            "kernel_died", kernel_id=record.kernel_id, owner=record.owner, why="its host is gone"
        )
        await super()._found_dead(record, *args)

    def authenticate_host(self, kernel_id: str, token: str) -> KernelRecord:
        """The kernel of a host token; foreign tokens are noted."""
        try:
            return super().authenticate_host(kernel_id, token)
        except AuthenticationError:
            self._audit.refused("host_refused", kernel_id=kernel_id)
            raise


def by(principal: Principal) -> dict[str, object]:
    """Who did it, as fields of an event."""
    return {"user": principal.user, "key_id": principal.key_id}
