"""``/api/kernels`` and below."""

from __future__ import annotations

from clouditia_gateway.errors import BadRequestError
from clouditia_gateway.handlers.base import GatewayHandler
from clouditia_gateway.kernel_env import checked_request_env
from clouditia_gateway.workdir import checked_path


class KernelsHandler(GatewayHandler):
    """List and start kernels."""

    def get(self) -> None:
        """The caller's kernels."""
        registry = self.context.registry
        self.answer([registry.model(record) for record in registry.list_kernels(self.principal)])

    async def post(self) -> None:
        """Start a kernel."""
        body = self.json_body()
        record = await self.context.registry.start_kernel(
            self.principal,
            name=optional_text(body.get("name"), "name"),
            env=checked_request_env(body.get("env")),
            path=checked_path(body.get("path")),
            kernel_id=optional_text(body.get("kernel_id"), "kernel_id"),
        )
        base_url = self.context.config.base_url
        self.set_header("Location", f"{base_url}api/kernels/{record.kernel_id}")
        self.answer(self.context.registry.model(record), status=201)


class KernelHandler(GatewayHandler):
    """One kernel."""

    def get(self, kernel_id: str) -> None:
        """Its model."""
        record = self.context.registry.get_kernel(kernel_id, self.principal)
        self.answer(self.context.registry.model(record))

    async def delete(self, kernel_id: str) -> None:
        """End it for good."""
        await self.context.registry.shutdown(kernel_id, self.principal)
        self.answer_nothing()


class KernelInterruptHandler(GatewayHandler):
    """Interrupt a kernel."""

    async def post(self, kernel_id: str) -> None:
        """Interrupt what it runs."""
        await self.context.registry.interrupt(kernel_id, self.principal)
        self.answer_nothing()


class KernelRestartHandler(GatewayHandler):
    """Restart a kernel."""

    async def post(self, kernel_id: str) -> None:
        """Restart it in place."""
        record = await self.context.registry.restart(kernel_id, self.principal)
        self.answer(self.context.registry.model(record))


def optional_text(value: object, name: str) -> str | None:
    """A string of a body, or ``None`` where it is absent or empty.

    Raises:
        BadRequestError: it is something else.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadRequestError(f"{name} must be a string, got {type(value).__name__}")
    return value
