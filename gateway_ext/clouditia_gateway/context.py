"""Everything a handler may use, in one value: ``self.settings["clouditia"]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clouditia_gateway.audit.log import Recorder
    from clouditia_gateway.auth import Authenticator
    from clouditia_gateway.channels.handed_over import HandedOver
    from clouditia_gateway.channels.hub import HostHub
    from clouditia_gateway.config import GatewayConfig
    from clouditia_gateway.kernelspecs import KernelSpecs
    from clouditia_gateway.keys import KeyStore
    from clouditia_gateway.live import LiveConnections
    from clouditia_gateway.registry import KernelRegistry
    from clouditia_gateway.sessions import SessionRegistry
    from clouditia_gateway.store import Store

#: The key in tornado's application settings.
SETTING = "clouditia"


@dataclass(frozen=True)
class GatewayContext:
    """The gateway's parts, made once at start.

    Attributes:
        authenticator: ``authenticate(request, allow_query_token=False) -> Authentication`` (with
            ``.principal`` and ``.via`` in ``header``, ``query``, ``cookie``); raises
            ``AuthenticationError``. A websocket opened by cookie must check its Origin.
        live_connections: ``register(principal, close) -> unregister``; ``close(code, reason)`` is
            called within 5 s after the key was revoked or has expired.
    """

    config: GatewayConfig
    audit: Recorder
    store: Store
    keys: KeyStore
    authenticator: Authenticator
    live_connections: LiveConnections
    specs: KernelSpecs
    hub: HostHub
    handed_over: HandedOver
    registry: KernelRegistry
    sessions: SessionRegistry
