"""A real Enterprise Gateway 3.3 in a process of its own, with kernels of other environments."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import needs

from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import assert_none_left, kill_all_under
from clouditia.testing.waiting import wait_until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
#: Kernels' sockets as files: ports are chosen long before they are bound, and on a busy machine
#: somebody else has them by then. EG's lie in its own folder, where its kernels start, too.
NO_PORTS = "--ConnectionFileMixin.transport=ipc"
#: The two kernels that ``tools/peers.py`` makes.
IPYKERNEL_6, IPYKERNEL_7 = "python3_6", "python3_7"


@dataclass(frozen=True)
class Answer:
    """What a server said to one request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class PlainServer:
    """A Jupyter server that knows nothing of Clouditia: where it is and what it wants to hear.

    Attributes:
        url: Its address, with the prefix of its paths and no slash at the end.
        token: What it wants to hear.
        folder: Where it runs, and its kernels.
    """

    url: str
    token: str
    folder: Path

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    @property
    def base_path(self) -> str:
        return self.url.split(f":{self.port}", 1)[1]

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One REST call, whatever the answer; by default with the token in a header."""
        if headers is None:
            headers = {"Authorization": f"token {self.token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, self.base_path + path, sent, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One REST call that must work; returns the decoded answer."""
        answer = self.ask(method, path, body)
        assert answer.status < 400, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer.json if answer.body else None

    @property
    def kernel_ids(self) -> list[str]:
        return [kernel["id"] for kernel in self.call("GET", "/api/kernels")]


@contextmanager
def enterprise_gateway(
    home: IsolatedHome,
    *,
    list_kernels: bool = True,
    base_url: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[PlainServer]:
    """Start one as the home's user, wait until it answers, end it and its kernels.

    Args:
        home: The user.
        list_kernels: Off by default in EG itself; then ``GET /api/kernels`` is a 403.
        base_url: Prefix of all its paths, with a slash in front and none at the end.
        environment: Variables on top of the home's and the ones set here.

    Raises:
        AssertionError: It did not start, or left a process behind.
    """
    python = needs.folder("build/peers/eg", "make peers") / "bin" / "python"
    token, port = secrets.token_hex(16), _free_port()
    folder = home.directory / f"eg-{port}"  # it and its kernels are recognised by it
    folder.mkdir()
    log = folder / "log"
    variables = home.environment() | {
        "EG_PORT": str(port),
        "EG_PORT_RETRIES": "0",
        "EG_AUTH_TOKEN": token,
        "EG_LIST_KERNELS": str(list_kernels),
        "EG_BASE_URL": base_url or "/",
        "JUPYTER_PATH": str(needs.folder("build/peers/jupyter", "make peers")),
        # Containers of CI run as root, which EG refuses as a kernel's user unless told otherwise.
        "EG_UNAUTHORIZED_USERS": "nobody-at-all",
        **(environment or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-m", "enterprise_gateway", NO_PORTS],
            env=variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = PlainServer(f"http://127.0.0.1:{port}{base_url}", token, folder)
    try:
        _wait_until_up(server, process, log)
        yield server
    except BaseException:
        process.kill()
        process.wait()
        kill_all_under(folder)
        raise
    process.terminate()
    process.wait(STOP_TIMEOUT_S)
    assert_none_left(folder)


def _wait_until_up(server: PlainServer, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_up() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"EG ended:\n{log.read_text(errors='replace')}")
        try:
            return server.ask("GET", "/api").status == 200
        except OSError:
            return False

    wait_until(is_up, START_TIMEOUT_S, what="Enterprise Gateway answers", interval_s=0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
