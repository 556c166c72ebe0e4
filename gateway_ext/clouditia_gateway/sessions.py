"""Jupyter sessions: a user's paths and the kernels that belong to them.

Keyed by (owner, path), so that two people's ``Untitled.ipynb`` are two sessions. Every kernel id
that a client names goes through the registry, which knows whose it is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clouditia.errors import KernelNotFound
from clouditia_gateway.clock import iso_now
from clouditia_gateway.errors import BadRequestError, NotFoundError
from clouditia_gateway.store import SessionRecord
from clouditia_gateway.workdir import checked_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clouditia_gateway.records import Principal
    from clouditia_gateway.registry import KernelRegistry
    from clouditia_gateway.store import Store

_MAX_NAME_CHARS = 4096


@dataclass(frozen=True)
class SessionRequest:
    """What a client asks a session to be; ``None`` leaves a field as it is."""

    path: str | None = None
    name: str | None = None
    type: str | None = None
    kernel_id: str | None = None
    kernel_name: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> SessionRequest:
        """Read Jupyter's session model, also in its older form with ``notebook``.

        Raises:
            BadRequestError: a field has the wrong type.
        """
        notebook = _part(body, "notebook")
        kernel = _part(body, "kernel")
        path = _text(body, "path") or _text(notebook, "path")
        old_style = bool(notebook) and "type" not in body
        return cls(
            path=None if path is None else checked_path(path),
            name=_text(body, "name") if "name" in body else _text(notebook, "name"),
            type="notebook" if old_style else _text(body, "type"),
            kernel_id=_text(kernel, "id") or None,
            kernel_name=_text(kernel, "name") or None,
        )


class SessionRegistry:
    """Sessions by owner; all kept in the store."""

    def __init__(self, store: Store, kernels: KernelRegistry) -> None:
        self._store = store
        self._kernels = kernels
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def list(self, principal: Principal) -> list[SessionRecord]:
        """The principal's sessions (an admin's list holds everybody's)."""
        return [
            session
            for session in self._store.sessions()
            if principal.is_admin or session.owner == principal.user
        ]

    def get(self, session_id: str, principal: Principal) -> SessionRecord:
        """The session of that id.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        session = self._store.session(session_id)
        if session is None or not (principal.is_admin or session.owner == principal.user):
            raise NotFoundError(f"there is no session {session_id[:64]}")
        return session

    async def create(
        self, request: SessionRequest, principal: Principal, env: Mapping[str, str]
    ) -> SessionRecord:
        """The principal's session at that path, with a new kernel if there was none.

        Raises:
            BadRequestError: there is no path.
            KernelNotFound: the named kernel is not the principal's.
        """
        if not request.path:
            raise BadRequestError("a session needs a path")
        key = (principal.user, request.path)
        async with self._locks[key]:  # two requests for one path make one session
            try:
                return await self._create(request, request.path, principal, env)
            finally:
                self._locks.pop(key, None)

    async def _create(
        self, request: SessionRequest, path: str, principal: Principal, env: Mapping[str, str]
    ) -> SessionRecord:
        existing = self._store.session_at(principal.user, path)
        if request.kernel_id is None and existing is not None:
            return existing
        kernel_id = await self._kernel_for(request, path, principal, env)
        session = existing or SessionRecord(
            session_id=str(uuid.uuid4()),
            owner=principal.user,
            path=path,
            name=request.name or "",
            type=request.type or "notebook",
            kernel_id=kernel_id,
            created_at=iso_now(),
        )
        session = replace(session, kernel_id=kernel_id)
        self._store.save_session(session)
        return session

    async def update(
        self, session_id: str, request: SessionRequest, principal: Principal
    ) -> SessionRecord:
        """Rename, move, or give another kernel; a kernel that no session names any more ends.

        Raises:
            BadRequestError: another session of this owner has that path.
        """
        before = self.get(session_id, principal)
        kernel_id = before.kernel_id
        if request.kernel_id is not None or request.kernel_name is not None:
            path = request.path or before.path
            kernel_id = await self._kernel_for(request, path, principal, {})
        after = replace(
            before,
            path=before.path if request.path is None else request.path,
            name=before.name if request.name is None else request.name,
            type=before.type if request.type is None else request.type,
            kernel_id=kernel_id,
        )
        other = self._store.session_at(after.owner, after.path)
        if other is not None and other.session_id != session_id:
            raise BadRequestError("another session of yours has this path")
        self._store.save_session(after)
        if before.kernel_id != kernel_id:
            await self._end_unused(before.kernel_id, principal)
        return after

    async def delete(self, session_id: str, principal: Principal) -> None:
        """End a session and, as Jupyter does, its kernel with it."""
        session = self.get(session_id, principal)
        self._store.remove_session(session_id)
        try:
            await self._kernels.shutdown(session.kernel_id, principal)
        except KernelNotFound:
            return  # it was shut down before its session

    async def _kernel_for(
        self, request: SessionRequest, path: str, principal: Principal, env: Mapping[str, str]
    ) -> str:
        if request.kernel_id is not None:
            return self._kernels.get_kernel(request.kernel_id, principal).kernel_id
        started = await self._kernels.start_kernel(
            principal, name=request.kernel_name, env=env, path=path
        )
        return started.kernel_id

    async def _end_unused(self, kernel_id: str, principal: Principal) -> None:
        if self._store.sessions_of_kernel(kernel_id):
            return
        try:
            await self._kernels.shutdown(kernel_id, principal)
        except KernelNotFound:
            return  # it is gone already

    def model(self, session: SessionRecord, principal: Principal) -> dict[str, Any]:
        """Jupyter's session model."""
        record = self._kernels.get_kernel(session.kernel_id, principal)
        model: dict[str, Any] = {
            "id": session.session_id,
            "path": session.path,
            "name": session.name,
            "type": session.type,
            "kernel": self._kernels.model(record),
        }
        if session.type == "notebook":
            model["notebook"] = {"path": session.path, "name": session.name}
        return model


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} must be an object, got {type(value).__name__}")
    return value


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRequestError(f"{name} must be a string, got {type(value).__name__}")
    if len(value) > _MAX_NAME_CHARS:
        raise BadRequestError(
            f"{name} has {len(value)} characters, at most {_MAX_NAME_CHARS} are possible"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequestError(f"{name} is not valid Unicode") from None
    return value
