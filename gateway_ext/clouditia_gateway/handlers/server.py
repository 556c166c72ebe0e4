"""Routes about the gateway itself: version, status, who am I, health, description, drain."""

from __future__ import annotations

import json

from clouditia import __version__
from clouditia_gateway.clock import iso
from clouditia_gateway.config import MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_MESSAGE_BYTES
from clouditia_gateway.endings import recent
from clouditia_gateway.errors import BadRequestError
from clouditia_gateway.handlers.base import PROTOCOL_VERSION, GatewayHandler
from clouditia_gateway.identity import user_model
from clouditia_gateway.kernel_env import MAX_VALUE_CHARS
from clouditia_gateway.life_limits import sentence
from clouditia_gateway.openapi import openapi_document

#: The Jupyter Server whose REST interface this one follows.
JUPYTER_API_VERSION = "2.21.1"


class ApiVersionHandler(GatewayHandler):
    """``/api``: as in Jupyter, anybody may ask for the version."""

    is_public = True

    def get(self) -> None:
        """The version of the Jupyter REST interface."""
        self.answer({"version": JUPYTER_API_VERSION})


class HealthHandler(GatewayHandler):
    """``/health``: for whoever supervises the process."""

    is_public = True

    def get(self) -> None:
        """The gateway answers and its database does too."""
        self.context.store.setting("health")
        self.answer({"status": "ok"})


class StatusHandler(GatewayHandler):
    """``/api/status``."""

    def get(self) -> None:
        """Jupyter's model; the counts are of the caller's own kernels."""
        registry = self.context.registry
        models = [registry.model(record) for record in registry.list_kernels(self.principal)]
        started = iso(self.settings["started"])
        self.answer(
            {
                "started": started,
                "last_activity": max([started, *(model["last_activity"] for model in models)]),
                "kernels": len(models),
                "connections": sum(model["connections"] for model in models),
            }
        )


class MeHandler(GatewayHandler):
    """``/api/me``."""

    def get(self) -> None:
        """Jupyter's identity model, and which of the asked permissions the caller has."""
        asked = self._asked_permissions()
        actions = {"kernels", "sessions", "kernelspecs"}
        granted = {name: wanted for name, wanted in asked.items() if name in actions}
        self.answer(
            {
                "identity": user_model(self.principal),
                "permissions": granted,
                "clouditia": {
                    "is_admin": self.principal.is_admin,
                    "key_id": self.principal.key_id,
                },
            }
        )

    def _asked_permissions(self) -> dict[str, list[str]]:
        try:
            asked = json.loads(self.get_query_argument("permissions", "{}"))
        except (ValueError, RecursionError):
            raise BadRequestError("permissions is not valid JSON") from None
        if not isinstance(asked, dict) or not all(isinstance(v, list) for v in asked.values()):
            raise BadRequestError("permissions must be an object of lists")
        return asked


class InfoHandler(GatewayHandler):
    """``/clouditia/api/v1/info``: how clients tell a Clouditia gateway from others."""

    def get(self) -> None:
        """Version, protocol, features and limits."""
        config = self.context.config
        self.answer(
            {
                "version": __version__,
                "protocol": int(PROTOCOL_VERSION),
                "user": self.principal.user,
                "is_admin": self.principal.is_admin,
                "features": ["kernels", "sessions", "resume"],
                "simulated_gpus": config.simulate_gpus or None,
                "ends_kernels": sentence(config.limits),
                "ended": recent(self.context.store, self.principal),
                "limits": {
                    "kernels_per_user": config.kernels_per_user,
                    "connections_per_address": config.connections_per_address,
                    "json_depth": MAX_JSON_DEPTH,
                    "body_bytes": MAX_BODY_BYTES,
                    "message_bytes": MAX_MESSAGE_BYTES,
                    "env_value_chars": MAX_VALUE_CHARS,
                    **config.limits.to_wire(),
                },
            }
        )


class OpenApiHandler(GatewayHandler):
    """``/clouditia/api/v1/openapi.json``."""

    def get(self) -> None:
        """The description of all routes."""
        self.answer(openapi_document(self.context.config.base_url))


class DrainHandler(GatewayHandler):
    """``/clouditia/api/v1/drain``."""

    needs_admin = True

    async def post(self) -> None:
        """End all kernels, of all users; the answer comes when they are gone."""
        self.answer({"ended": await self.context.registry.drain()})
