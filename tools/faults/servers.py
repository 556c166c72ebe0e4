"""Servers that can be killed and started again under the same address."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from clouditia.testing.home import IsolatedHome
from clouditia.testing.jupyter_server import call_server
from clouditia.testing.processes import kill_all_under
from clouditia.testing.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
_START_S = 60.0


class Server:
    """A Jupyter server, stock or not, in a folder of its own.

    Args:
        home: The user.
        name: Of the folder.
        command: What to run.
        environment: On top of the home's.
    """

    def __init__(
        self, home: IsolatedHome, name: str, command: list[str], environment: dict[str, str]
    ) -> None:
        self.folder = home.directory / name
        self.folder.mkdir()
        self.port = _free_port()
        self.token = secrets.token_hex(16)
        self._command = [word.format(port=self.port) for word in command]
        names = {"JUPYTER_TOKEN": self.token, **environment}
        values = {"port": str(self.port), "token": self.token}
        self._environment = home.environment() | {
            name: value.format(**values) for name, value in names.items()
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_up, _START_S, what=f"{self.folder.name} answers", interval_s=0.1)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill it and what it has started."""
        self.kill()
        kill_all_under(self.folder)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One REST call; returns the decoded answer.

        Raises:
            OSError: It does not listen, or answered with an error.
        """
        return call_server(self.port, self.token, method, path, body)

    def open_notebook(self, kernel_name: str) -> str:
        """Open the notebook ``a.ipynb`` as JupyterLab does; returns the id of its kernel."""
        body = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook"}
        session = self.call("POST", "/api/sessions", {**body, "kernel": {"name": kernel_name}})
        return str(session["kernel"]["id"])

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text(errors="replace")[-3000:])
        try:
            return bool(self.call("GET", "/api"))
        except OSError:
            return False


def stock_server(home: IsolatedHome, name: str, *options: str, **environment: str) -> Server:
    """jupyter_server as it comes."""
    fixed = ["--allow-root", "--no-browser", "--port={port}", "--ServerApp.port_retries=0"]
    command = [sys.executable, "-m", "jupyter_server", *fixed, *options]
    return Server(home, name, command, environment)


def enterprise_gateway(home: IsolatedHome, name: str) -> Server:
    """Enterprise Gateway 3.3 of ``make peers``."""
    peers = ROOT / "build" / "peers"
    environment = {
        "EG_PORT": "{port}",
        "EG_PORT_RETRIES": "0",
        "EG_AUTH_TOKEN": "{token}",
        "EG_LIST_KERNELS": "True",
        "JUPYTER_PATH": str(peers / "jupyter"),
        "EG_UNAUTHORIZED_USERS": "nobody-at-all",  # kernels of root, as in containers
    }
    python = str(peers / "eg" / "bin" / "python")
    ipc = "--ConnectionFileMixin.transport=ipc"
    return Server(home, name, [python, "-m", "enterprise_gateway", ipc], environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
