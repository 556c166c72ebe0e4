"""jupyter_server's application, with everything that is not ours turned off.

No configuration of somebody's JupyterLab is read, no other extension is loaded, no token is
generated or printed, no browser is opened, no server-info file is written, Ctrl-C asks nothing, and
stopping keeps all kernels.
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

# jsonschema imports these packages, where installed, for three formats that no schema here uses.
# Building the grammar of the first takes 1.7 s, three times as long as the rest of the start.
_UNUSED_FORMATS = ("rfc3987_syntax", "isoduration")
_hidden = [name for name in _UNUSED_FORMATS if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]  # makes `import` fail
importlib.import_module("jsonschema")
for _name in _hidden:
    del sys.modules[_name]

from jupyter_server.serverapp import ServerApp  # noqa: E402
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager  # noqa: E402
from traitlets.config import Config  # noqa: E402

from clouditia_gateway.config import MAX_BODY_BYTES  # noqa: E402
from clouditia_gateway.front_door import FrontDoor  # noqa: E402
from clouditia_gateway.identity import ClosedAuthorizer, KeyIdentityProvider  # noqa: E402

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from clouditia_gateway.gateway import Gateway

log = logging.getLogger("clouditia.gateway")

#: Tornado closes a connection beyond this; handlers answer 413 from their own, lower limit on.
_MAX_HTTP_BODY_BYTES = 4 * MAX_BODY_BYTES


class KeptKernels(AsyncMappingKernelManager):
    """Shows the registry's kernels to jupyter_server's own parts and never ends one."""

    def list_kernel_ids(self) -> list[str]:
        """Ids of all live kernels."""
        server: Any = self.parent
        return [record.kernel_id for record in server.gateway.context.store.live_kernels()]

    def __len__(self) -> int:
        """How many kernels live."""
        return len(self.list_kernel_ids())

    async def shutdown_all(self, *_args: Any, **_options: Any) -> None:  # type: ignore[override]  # base: run_sync
        """Nothing: kernels outlive the gateway."""


class GatewayServer(ServerApp):
    """The server around one :class:`~clouditia_gateway.gateway.Gateway`."""

    name = "clouditia-gateway-server"
    default_services = ()  # type: ignore[assignment]  # its type counts the elements
    gateway: Gateway
    _failure: BaseException | None = None

    @classmethod
    def around(cls, gateway: Gateway) -> GatewayServer:
        """The one server of this process, initialised."""
        server: GatewayServer = cls.instance(
            config=_server_config(gateway),
            jpserver_extensions={"clouditia_gateway": True},
            log_level=logging.WARNING,
            runtime_dir=str(gateway.state.path),
        )
        server.gateway = gateway
        server.initialize(argv=[], find_extensions=False, starter_extension="clouditia_gateway")
        return server

    # --- what jupyter_server would do and a gateway must not ------------------------------------

    def load_config_file(self, *_args: Any, **_options: Any) -> None:
        """None: settings for somebody's notebooks must not open the gateway."""

    def migrate_config(self) -> None:
        """Nothing to migrate."""

    def init_logging(self) -> None:
        """Let all lines go where the gateway's go."""
        super().init_logging()
        self.log.handlers.clear()
        self.log.setLevel(logging.WARNING)
        self.log.propagate = True

    def init_signal(self) -> None:
        """SIGTERM and Ctrl-C stop at once and keep kernels."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal_stop)

    def _signal_stop(self, sig: Any, frame: Any) -> None:
        log.info("received %s, stopping; kernels stay", signal.Signals(sig).name)
        self.stop(from_signal=True)

    def init_httpserver(self) -> None:
        """Serve on sockets that are bound already; accepting begins in :meth:`_post_start`."""
        self._http_server = FrontDoor.around(
            self.web_app,
            tls=self.gateway.tls,
            max_body_bytes=_MAX_HTTP_BODY_BYTES,
            connections_per_address=self.gateway.config.connections_per_address,
            audit=self.gateway.context.audit,
        )

    def start_app(self) -> None:
        """No banner, no browser, no files: ``ready URL`` is all that is said."""

    async def _post_start(self) -> None:
        try:
            await super()._post_start()  # type: ignore[no-untyped-call]  # jupyter_server
            await self.gateway.start(self.http_server, self.stop)
        except Exception as exc:  # noqa: BLE001  (the border of the start: told by `run`)
            self._failure = exc
            self.stop()

    async def _cleanup(self) -> None:
        await self.gateway.aclose()
        await super()._cleanup()
        await self.http_server.close_all_connections()

    # --- the run --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until stopped.

        Raises:
            Exception: what made the start fail.
        """
        self.start()
        if self._failure is not None:
            raise self._failure


def _server_config(gateway: Gateway) -> Config:
    config = gateway.config
    return Config(
        ServerApp={
            "allow_remote_access": True,  # every request needs a key, whatever its Host header
            "allow_root": True,
            "authorizer_class": ClosedAuthorizer,
            "base_url": config.base_url,
            "cookie_secret": gateway.cookie_secret,
            "default_url": config.base_url,
            "identity_provider_class": KeyIdentityProvider,
            "ip": config.host,
            "kernel_manager_class": KeptKernels,
            "limit_rate": False,
            "open_browser": False,
            "port": gateway.port,
            "reraise_server_extension_failures": True,
            "tornado_settings": {"log_function": _log_function(gateway), "xsrf_cookies": False},
        },
    )


def _log_function(gateway: Gateway) -> Any:
    def log_request(handler: RequestHandler) -> None:
        """One line per request, without its query (which may hold a token)."""
        gateway.note_request()
        status = handler.get_status()
        level = logging.ERROR if status >= 500 and status != 503 else logging.DEBUG
        log.log(
            level,
            "%s %s %d %.1f ms",
            handler.request.method,
            handler.request.path[:200],
            status,
            1000 * handler.request.request_time(),
        )

    return log_request
