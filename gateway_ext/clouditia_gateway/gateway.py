"""The gateway put together: opened in an order that leaves nothing behind when a step fails."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from clouditia import __version__
from clouditia.errors import ConfigError
from clouditia_gateway.audit.kernels import AuditedRegistry
from clouditia_gateway.audit.log import AuditLog
from clouditia_gateway.auth import Authenticator
from clouditia_gateway.channels.handed_over import HandedOver
from clouditia_gateway.channels.hub import HostHub
from clouditia_gateway.config import EMBEDDED_IDLE_S, certificate_pin, server_tls
from clouditia_gateway.context import GatewayContext
from clouditia_gateway.engines.local import LocalEngine
from clouditia_gateway.kernelspecs import KernelSpecs
from clouditia_gateway.keys import KeyStore
from clouditia_gateway.launcher import HostLauncher
from clouditia_gateway.life_limits import sentence
from clouditia_gateway.live import LiveConnections, watch_keys
from clouditia_gateway.logs import close_logging, configure_logging
from clouditia_gateway.sessions import SessionRegistry
from clouditia_gateway.state_dir import StateDir
from clouditia_gateway.store import Store
from clouditia_gateway.undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.httpserver import HTTPServer

    from clouditia_gateway.config import GatewayConfig

log = logging.getLogger("clouditia.gateway")

_IDLE_CHECK_S = 1.0
#: Connections that may wait to be accepted: a restart brings all clients and hosts at once.
_BACKLOG = 1024


class Gateway:
    """One gateway on one state directory.

    Raises:
        ConfigError: certificate, port, state directory or database cannot be used, or another
            gateway runs on the state directory.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.tls = server_tls(config)
        self._pin = certificate_pin(config)
        self._tasks: list[asyncio.Task[None]] = []
        self._last_request = 0.0
        with ExitStack() as undo:
            # A port that somebody named is tried before anything is written to disk.
            named = _bind(config, config.port) if config.port else None
            if named is not None:
                undo.callback(named.close)
            self.state = StateDir(config.state_dir)
            self.state.prepare()
            self.state.lock()
            undo.callback(self.state.unlock)
            self._store = Store(self.state.database)
            undo.callback(self._store.close)
            self._store.checkpoint()
            self._socket = named or _bind_kept_port(config, self._store)
            undo.callback(self._socket.close)  # harmless when repeated
            undo.callback(close_logging, configure_logging(self.state.log))
            self._audit = AuditLog(self.state.path)
            self.cookie_secret = _cookie_secret(self._store)
            self._engine = LocalEngine()
            undo.callback(self._engine.release)
            self.context = self._assemble()
            self.context.keys.mint_admin_key(self.state)
            self._audit.record(
                "gateway_started",
                version=__version__,
                host=config.host,
                port=self.port,
                tls=self.tls is not None,
            )
            undo.callback(self._audit.record, "gateway_stopped")
            self._undo = undo.pop_all()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The URL that people use."""
        return self.config.url(self.port)

    def _assemble(self) -> GatewayContext:
        audit, hub, specs = self._audit, HostHub(), KernelSpecs()
        keys = KeyStore(self._store, audit)
        launcher = HostLauncher(
            engine=self._engine,
            store=self._store,
            state=self.state,
            specs=specs,
            config=self.config,
            environment=os.environ,
        )
        registry = AuditedRegistry(
            audit=audit,
            store=self._store,
            hub=hub,
            launcher=launcher,
            undertaker=Undertaker(self._store, hub, self._engine),
            kernels_per_user=self.config.kernels_per_user,
        )
        live_connections = LiveConnections()
        return GatewayContext(
            config=self.config,
            audit=audit,
            store=self._store,
            keys=keys,
            authenticator=Authenticator(keys, self.cookie_secret, audit),
            live_connections=live_connections,
            specs=specs,
            hub=hub,
            handed_over=HandedOver(live_connections, hub.tell),
            registry=registry,
            sessions=SessionRegistry(self._store, registry),
        )

    async def start(self, server: HTTPServer, stop: Callable[[], None]) -> None:
        """Adopt kernels, accept connections, say so.

        Args:
            server: Serves the application; gets the listening sockets.
            stop: Called once when an embedded gateway is no longer needed.
        """
        await self.context.registry.start()
        server.add_socket(self._socket)
        self.state.write_gateway_file(
            {
                "url": self.url,
                "host_url": self.config.host_url(self.port),
                "pid": os.getpid(),
                "version": __version__,
                "tls_pin": self._pin,
            }
        )
        self.note_request()
        self._tasks.append(
            asyncio.create_task(watch_keys(self.context.live_connections, self.context.keys))
        )
        # The first look at kernelspecs imports ipykernel; better now than in the first request.
        self._tasks.append(asyncio.create_task(asyncio.to_thread(self.context.specs.warm_up)))
        if self.config.is_embedded:
            self._tasks.append(asyncio.create_task(self._end_when_idle(stop)))
        log.info("ready at %s, state in %s", self.url, self.state.path)
        if limits := sentence(self.config.limits):
            log.info("%s", limits)
        sys.stdout.write(f"ready {self.url}\n")
        sys.stdout.flush()

    def note_request(self) -> None:
        """Somebody uses the gateway."""
        self._last_request = asyncio.get_running_loop().time()

    async def _end_when_idle(self, stop: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._last_request < EMBEDDED_IDLE_S:
            await asyncio.sleep(_IDLE_CHECK_S)
            if self.context.registry.live_count or len(self.context.live_connections):
                self.note_request()
        log.info("nobody needs the embedded gateway any more, ending")
        stop()

    async def aclose(self) -> None:
        """Let go of clients and kernel hosts; all kernels live on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.context.registry.aclose()
        self.context.hub.close_all()

    def close(self) -> None:
        """Close files and sockets and free the state directory; harmless when repeated."""
        self._undo.close()


def _bind(config: GatewayConfig, port: int) -> socket.socket:
    """Listen on the first address that the host name stands for."""
    try:
        found = socket.getaddrinfo(config.host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(found[4][:2], family=found[0], backlog=_BACKLOG)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(
            f"cannot listen on {config.host} port {port}: {_reason(exc)}",
            hint="Choose another one with --port, or 0 for any.",
        ) from exc
    listening.setblocking(False)  # noqa: FBT003  (its only argument)
    return listening


def _reason(exc: Exception) -> str:
    """The system's words without the numbers and addresses that Python adds to them."""
    if isinstance(exc, OSError) and not isinstance(exc, socket.gaierror) and exc.errno:
        return os.strerror(exc.errno)
    return getattr(exc, "strerror", None) or str(exc)


def _bind_kept_port(config: GatewayConfig, store: Store) -> socket.socket:
    """Listen on the port chosen at the first start, so that a restart strands nobody."""
    kept = store.setting("port")
    listening = _bind(config, int(kept or 0))
    if kept is None:
        store.set_setting("port", str(listening.getsockname()[1]))
    return listening


def _cookie_secret(store: Store) -> bytes:
    """Signs login cookies; kept, so that a restart logs nobody out."""
    secret = store.setting("cookie_secret")
    if secret is None:
        secret = secrets.token_hex(32)
        store.set_setting("cookie_secret", secret)
    return bytes.fromhex(secret)
