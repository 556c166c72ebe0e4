"""``/api/sessions`` and below."""

from __future__ import annotations

from clouditia.errors import KernelNotFound
from clouditia_gateway.handlers.base import GatewayHandler
from clouditia_gateway.kernel_env import checked_request_env
from clouditia_gateway.sessions import SessionRequest


class SessionsHandler(GatewayHandler):
    """List and create sessions."""

    def get(self) -> None:
        """The caller's sessions."""
        models = []
        for session in self.context.sessions.list(self.principal):
            try:
                models.append(self.context.sessions.model(session, self.principal))
            except KernelNotFound:
                continue  # its kernel ended while the list was made
        self.answer(models)

    async def post(self) -> None:
        """The session at a path, with a kernel."""
        body = self.json_body()
        session = await self.context.sessions.create(
            SessionRequest.from_body(body), self.principal, checked_request_env(body.get("env"))
        )
        base_url = self.context.config.base_url
        self.set_header("Location", f"{base_url}api/sessions/{session.session_id}")
        self.answer(self.context.sessions.model(session, self.principal), status=201)


class SessionHandler(GatewayHandler):
    """One session."""

    def get(self, session_id: str) -> None:
        """Its model."""
        session = self.context.sessions.get(session_id, self.principal)
        self.answer(self.context.sessions.model(session, self.principal))

    async def patch(self, session_id: str) -> None:
        """Rename it, move it, give it another kernel."""
        request = SessionRequest.from_body(self.json_body())
        session = await self.context.sessions.update(session_id, request, self.principal)
        self.answer(self.context.sessions.model(session, self.principal))

    async def delete(self, session_id: str) -> None:
        """End it and its kernel."""
        await self.context.sessions.delete(session_id, self.principal)
        self.answer_nothing()
