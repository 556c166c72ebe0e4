"""A stock Jupyter server in a process of its own, as users have it beside Clouditia."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clouditia.testing.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clouditia.testing.home import IsolatedHome

START_TIMEOUT_S = 45.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class JupyterServer:
    """Where it listens and what it wants to hear."""

    port: int
    token: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One REST call; returns the decoded answer.

        Raises:
            OSError: It does not listen, or answered with an error.
        """
        return call_server(self.port, self.token, method, path, body)

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.call("GET", "/api/status"))
        except OSError:
            return False


def call_server(port: int, token: str, method: str, path: str, body: object = None) -> Any:
    """One REST call to a server on this machine; returns the decoded answer.

    Raises:
        OSError: It does not listen, or answered with an error or with nonsense.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    except http.client.HTTPException as exc:
        raise ConnectionError(str(exc)) from exc
    finally:
        connection.close()
    if response.status >= 400:
        raise ConnectionError(f"{method} {path}: {response.status} {answer!r}")
    return json.loads(answer) if answer else None


@contextmanager
def jupyter_server(
    home: IsolatedHome, *options: str, command: tuple[str, ...] = ("-m", "jupyter_server")
) -> Iterator[JupyterServer]:
    """Start one as the home's user, wait until it answers, and end it by SIGTERM.

    Args:
        home: The user.
        options: More options of the server.
        command: Arguments for Python, for a server that is not quite stock.
    """
    token, port = secrets.token_hex(16), _free_port()
    fixed = ["--allow-root", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    log = home.directory / f"jupyter-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, *fixed, *options],
            env=home.environment() | {"JUPYTER_TOKEN": token},
            cwd=home.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = JupyterServer(port, token, process)
    try:
        wait_until(
            lambda: server.is_up() or process.poll() is not None, START_TIMEOUT_S, what="a server"
        )
        if process.poll() is not None:
            raise RuntimeError(f"the Jupyter server ended:\n{log.read_text(errors='replace')}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
