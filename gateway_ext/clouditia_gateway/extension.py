"""``jupyter clouditia-gateway``: the gateway as a Jupyter application with traits.

The traits are the gateway's options for ``jupyter_clouditia_gateway_config.py``; they become one
frozen :class:`~clouditia_gateway.config.GatewayConfig` before anything is opened.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouditia.errors import ClouditiaError, ConfigError
from clouditia_gateway.server import GatewayServer  # first: it makes jupyter_server's import fast

from jupyter_server.extension.application import ExtensionApp  # isort: skip
from tornado.routing import PathMatches, Rule
from traitlets import Bool, Float, Int, Unicode
from traitlets.config import Config

from clouditia_gateway.config import (
    DEFAULT_CONNECTIONS_PER_ADDRESS,
    DEFAULT_KERNELS_PER_USER,
    GatewayConfig,
    default_state_dir,
    normal_base_url,
)
from clouditia_gateway.context import SETTING
from clouditia_gateway.gateway import Gateway
from clouditia_gateway.handlers.base import UnknownRouteHandler
from clouditia_gateway.host.lifespan import Policy
from clouditia_gateway.routes import all_routes

if TYPE_CHECKING:
    from tornado.web import Application

_OWN_PACKAGE = "clouditia_gateway."


class ClouditiaGateway(ExtensionApp):
    """Serves kernels that outlive networks, front ends and the gateway itself."""

    name = "clouditia_gateway"
    load_other_extensions = False
    description = __doc__

    host = Unicode("127.0.0.1", config=True, help="Address to listen on.")
    port = Int(0, config=True, help="TCP port; 0 chooses one once and keeps it.")
    state_dir = Unicode("", config=True, help="Directory of keys, database and kernels.")
    tls_cert = Unicode("", config=True, help="PEM certificate chain; needed off loopback.")
    tls_key = Unicode("", config=True, help="PEM private key of the certificate.")
    base_url = Unicode("/", config=True, help="URL prefix.")
    simulate_gpus = Unicode("", config=True, help="Simulated GPUs, such as 2xH100:80GiB.")
    embedded = Bool(
        default_value=False, config=True, help="End after 60 s without kernels and clients."
    )
    root_dir = Unicode("", config=True, help="Kernels start here or below; default: home.")
    kernels_per_user = Int(
        DEFAULT_KERNELS_PER_USER, config=True, help="Limit of live kernels of one user."
    )

    connections_per_address = Int(
        DEFAULT_CONNECTIONS_PER_ADDRESS,
        config=True,
        help="Limit of open connections from one address of another machine.",
    )
    cull_idle_timeout = Float(
        0.0, config=True, help="End kernels without work and client for so many seconds; 0: never."
    )
    cull_connected = Bool(
        default_value=False, config=True, help="A client alone keeps no kernel from being culled."
    )
    detached_ttl = Float(
        0.0, config=True, help="Seconds for kernels that ask for no KERNEL_DETACHED_TTL; 0: none."
    )
    max_detached_ttl = Float(
        0.0, config=True, help="The most seconds that a kernel may ask for; 0: any."
    )

    aliases: dict[str, str] = {  # noqa: RUF012  (so declared by the base)
        "host": "ClouditiaGateway.host",
        "port": "ClouditiaGateway.port",
        "state-dir": "ClouditiaGateway.state_dir",
        "tls-cert": "ClouditiaGateway.tls_cert",
        "tls-key": "ClouditiaGateway.tls_key",
        "base-url": "ClouditiaGateway.base_url",
        "simulate-gpus": "ClouditiaGateway.simulate_gpus",
        "config": "JupyterApp.config_file",
    }
    flags: dict[str, Any] = {}  # noqa: RUF012  (likewise)

    def gateway_config(self) -> GatewayConfig:
        """The traits as one checked value.

        Raises:
            ConfigError: an option cannot work.
        """
        return GatewayConfig(
            state_dir=Path(self.state_dir) if self.state_dir else default_state_dir(),
            host=self.host,
            port=self.port,
            base_url=normal_base_url(self.base_url),
            tls_cert=Path(self.tls_cert) if self.tls_cert else None,
            tls_key=Path(self.tls_key) if self.tls_key else None,
            simulate_gpus=self.simulate_gpus,
            is_embedded=self.embedded,
            root_dir=Path(self.root_dir) if self.root_dir else None,
            kernels_per_user=self.kernels_per_user,
            connections_per_address=self.connections_per_address,
            limits=self._limits(),
        )

    def _limits(self) -> Policy:
        """When unused kernels are ended; the names of stock servers are understood, too."""
        stock = self.config.get("MappingKernelManager", {})
        if _is_true(stock.get("cull_busy")):
            raise ConfigError("cull_busy is not supported: a kernel that works is never ended")
        return Policy(
            self.cull_idle_timeout or float(stock.get("cull_idle_timeout", 0)),
            self.cull_connected or _is_true(stock.get("cull_connected")),
            self.detached_ttl,
            self.max_detached_ttl,
        )

    def initialize_settings(self) -> None:
        """Make the gateway's parts known to handlers."""
        self.settings[SETTING] = self._server.gateway.context

    def initialize_handlers(self) -> None:
        """Our routes; jupyter_server puts the base URL in front."""
        self.handlers = all_routes(self._server.gateway.context)

    def initialize(self) -> None:  # type: ignore[override]  # so declared by the base
        """Set up, then remove whatever is not ours."""
        super().initialize()  # type: ignore[no-untyped-call]  # jupyter_server
        remove_foreign_routes(self._server.web_app)

    @property
    def _server(self) -> GatewayServer:
        if not isinstance(self.serverapp, GatewayServer):
            raise ConfigError(
                "the Clouditia gateway cannot be an extension of another Jupyter server",
                hint="Start it with: jupyter clouditia-gateway",
            )
        return self.serverapp

    @classmethod
    def launch_instance(cls, argv: Sequence[str] | None = None, **_options: Any) -> None:
        """Read options and configuration, then run the gateway until it is stopped."""
        reader = cls()
        reader.parse_command_line(list(sys.argv[1:] if argv is None else argv))
        from_command_line = Config(reader.config)
        reader.load_config_file()
        reader.update_config(from_command_line)
        run_gateway(reader.gateway_config())


def _is_true(value: object) -> bool:
    """A trait's value as a configuration file or a command line gives it."""
    return str(value).lower() in ("true", "1")


def remove_foreign_routes(application: Application) -> None:
    """Keep only rules whose handler is defined in this package, and end with our own 404.

    jupyter_server always adds some (files, static pages, …), and a later version may add more.
    """
    for rule in application.default_router.rules:
        router = rule.target
        rules = getattr(router, "rules", None)
        if rules is None:
            continue
        rules[:] = [inner for inner in rules if _is_own(inner.target)]
    application.wildcard_router.rules.append(Rule(PathMatches(r".*"), UnknownRouteHandler))


def _is_own(handler: object) -> bool:
    return isinstance(handler, type) and handler.__module__.startswith(_OWN_PACKAGE)


def run_gateway(config: GatewayConfig) -> None:
    """Run a gateway in this process until SIGTERM, Ctrl-C, or its own end.

    Raises:
        ConfigError: it cannot start; nothing of it is left.
    """
    gateway = Gateway(config)
    try:
        GatewayServer.around(gateway).run()
    finally:
        gateway.close()
        GatewayServer.clear_instance()


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``jupyter clouditia-gateway``; returns the exit code of the error table."""
    try:
        ClouditiaGateway.launch_instance(argv)
    except ClouditiaError as exc:
        sys.stderr.write(f"clouditia-gateway: {exc}\n")
        return exc.exit_code
    return 0
