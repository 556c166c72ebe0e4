"""What is compared: each stack as its users have it, with a network that can be broken."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from importlib.metadata import version
from typing import Self

from tools.faults.kernel_client import KernelClient
from tools.faults.page import Page
from tools.faults.servers import ROOT, Server, enterprise_gateway, stock_server

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import kill_all_under
from clouditia.testing.targets import log_in

_READY_S = 60.0


class NotReady(Exception):
    """A kernel or its client could not be had."""


class Stack:
    """A client, a network, a server with the kernels, and maybe a local server before them.

    Attributes:
        title: What readers know it as.
        local: The local server, where there is one.
        proxy: The network to the server with the kernels.
    """

    title = ""
    kernel_name = "python3"

    def __init__(self, home: IsolatedHome) -> None:
        self.home = home
        self.local: Server | None = None
        self.proxy: ChaosProxy
        self._clients: list[Page | KernelClient] = []

    def __enter__(self) -> Self:
        """Start everything."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Kill everything."""
        for client in self._clients:
            client.close()
        self.proxy.close()
        if self.local is not None:
            self.local.close()
        self.stop()
        kill_all_under(self.home.directory)

    def start(self) -> None:
        """Start the servers."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the server with the kernels."""
        raise NotImplementedError

    @staticmethod
    def versions() -> str:
        """Of what it is made of."""
        raise NotImplementedError

    def open(self, *, is_busy: bool = False) -> Page | KernelClient:
        """Open the notebook, also again after a reload.

        Args:
            is_busy: Its cell runs, so that the kernel cannot answer; else it is waited for.
        """
        raise NotImplementedError

    def second(self) -> Page:
        """Another device that is connected to the kernel, past the network that breaks."""
        raise NotImplementedError

    def kill_gateway(self) -> None:
        """``kill -9`` of the server with the kernels."""
        raise NotImplementedError

    def start_gateway(self) -> None:
        """Start it again."""
        raise NotImplementedError

    def server_pids(self) -> list[int]:
        """The processes between kernel and client."""
        raise NotImplementedError

    def ask_again(self, client: Page | KernelClient, cell: str) -> bool:
        """What this stack's page does for a cell that it knows from before its reload.

        Returns:
            Whether it is sent the whole output of the cell once more, with a mark.
        """
        del client, cell
        return False

    def _keep(self, client: Page | KernelClient, *, is_busy: bool = False) -> Page | KernelClient:
        self._clients.append(client)
        if not (client.is_connected(_READY_S) and (is_busy or client.is_ready(_READY_S))):
            raise NotReady(f"no answer of the kernel within {_READY_S:.0f} s")
        return client


class _Remote(Stack):
    """A stack before a server that is not ours."""

    server: Server

    def stop(self) -> None:
        self.server.close()

    def _break_network_to(self, server: Server) -> str:
        server.start()
        self.server = server
        self.proxy = ChaosProxy("127.0.0.1", server.port)
        return f"http://{self.proxy.host}:{self.proxy.port}"

    def second(self) -> Page:
        (kernel,) = self.server.call("GET", "/api/kernels")
        page = Page(self.server.url, self.server.token, kernel["id"])
        self._keep(page, is_busy=True)
        return page

    def kill_gateway(self) -> None:
        self.server.kill()

    def start_gateway(self) -> None:
        self.server.start()

    def server_pids(self) -> list[int]:
        pids = [self.server.pid]
        return pids if self.local is None else [*pids, self.local.pid]


class StockServer(_Remote):
    """JupyterLab's page straight at a jupyter_server."""

    title = "jupyter_server"

    def start(self) -> None:
        self._url = self._break_network_to(stock_server(self.home, "server"))

    @staticmethod
    def versions() -> str:
        return f"jupyter_server {version('jupyter_server')}"

    def open(self, *, is_busy: bool = False) -> Page | KernelClient:
        kernel_id = self.server.open_notebook(self.kernel_name)
        return self._keep(Page(self._url, self.server.token, kernel_id), is_busy=is_busy)


class GatewayUrl(_Remote):
    """JupyterLab's page at a local server with ``--gateway-url``, a jupyter_server behind it."""

    title = "--gateway-url"

    def start(self) -> None:
        url = self._break_network_to(self._behind())
        token = f"--GatewayClient.auth_token={self.server.token}"
        self.local = stock_server(
            self.home, "local", f"--gateway-url={url}", token, KERNEL_USERNAME="ada"
        )
        self.local.start()

    def _behind(self) -> Server:
        return stock_server(self.home, "server")

    @staticmethod
    def versions() -> str:
        return f"jupyter_server {version('jupyter_server')} on both sides"

    def open(self, *, is_busy: bool = False) -> Page | KernelClient:
        if self.local is None:
            raise NotReady("no local server")
        kernel_id = self.local.open_notebook(self.kernel_name)
        return self._keep(Page(self.local.url, self.local.token, kernel_id), is_busy=is_busy)


class EnterpriseGateway(GatewayUrl):
    """The same with a real Enterprise Gateway behind it."""

    title = "Enterprise Gateway"
    kernel_name = "python3_7"

    def _behind(self) -> Server:
        return enterprise_gateway(self.home, "server")

    @staticmethod
    def versions() -> str:
        python = ROOT / "build" / "peers" / "eg" / "bin" / "python"
        asks = "from importlib.metadata import version as v; print(v('jupyter_enterprise_gateway'))"
        done = subprocess.run([python, "-c", asks], capture_output=True, text=True, check=False)
        found = done.stdout.strip() or "not installed"
        return f"Enterprise Gateway {found} behind --gateway-url"


class KernelClientStack(_Remote):
    """jupyter-kernel-client with its default options, at a jupyter_server."""

    title = "jupyter-kernel-client"

    def start(self) -> None:
        self._url = self._break_network_to(stock_server(self.home, "server"))
        self._kernel_id = ""

    @staticmethod
    def versions() -> str:
        return f"jupyter-kernel-client {version('jupyter-kernel-client')}"

    def open(self, *, is_busy: bool = False) -> Page | KernelClient:
        client = KernelClient(self.home, self._url, self.server.token, self._kernel_id)
        self._keep(client, is_busy=is_busy)
        self._kernel_id = client.kernel_id
        return client


class Clouditia(Stack):
    """JupyterLab's page at a local server with our kernelspec, our gateway behind it."""

    title = "Clouditia"

    def start(self) -> None:
        self._gateway = GatewayProcess(self.home)
        self._gateway.start()
        port = int(self._gateway.url.rsplit(":", 1)[1].rstrip("/"))
        self.proxy = ChaosProxy("127.0.0.1", port)
        url = f"http://{self.proxy.host}:{self.proxy.port}"
        self.kernel_name = log_in(self._gateway, url=url).kernel_name()
        self._direct = log_in(self._gateway, name="direct")
        self.local = stock_server(self.home, "local")
        self.local.start()

    def stop(self) -> None:
        self._gateway.kill()

    @staticmethod
    def versions() -> str:
        describe = ["git", "rev-parse", "--short", "HEAD"]
        done = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=ROOT)
        return f"Clouditia {version('clouditia')} ({done.stdout.strip()})"

    def open(self, *, is_busy: bool = False) -> Page | KernelClient:
        if self.local is None:
            raise NotReady("no local server")
        kernel_id = self.local.open_notebook(self.kernel_name)
        return self._keep(Page(self.local.url, self.local.token, kernel_id), is_busy=is_busy)

    def second(self) -> Page:
        (kernel,) = GatewayClient(load_target("direct")).list_kernels()
        page = Page(self._gateway.url.rstrip("/"), self._direct.key, kernel["id"])
        self._keep(page, is_busy=True)
        return page

    def kill_gateway(self) -> None:
        self._gateway.kill()

    def start_gateway(self) -> None:
        self._gateway.start()

    def server_pids(self) -> list[int]:
        from clouditia.testing.chaos import Killer

        pids = [self._gateway.pid]
        if self.local is not None:
            pids.append(self.local.pid)
        killer = Killer(self._gateway)
        for role in ("bridge", "host"):
            with suppress(LookupError):
                pids.append(killer.pid(role))
        return pids

    def ask_again(self, client: Page | KernelClient, cell: str) -> bool:
        if isinstance(client, Page):  # as labextension/src/replay.ts
            client.send("control", "clouditia_replay_request", {"msg_id": cell})
        return True


STACKS: dict[str, type[Stack]] = {
    "stock": StockServer,
    "gateway-url": GatewayUrl,
    "kernel-client": KernelClientStack,
    "eg": EnterpriseGateway,
    "clouditia": Clouditia,
}
