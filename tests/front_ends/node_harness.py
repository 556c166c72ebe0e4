"""Drives the Node harness that behaves as the Jupyter extension of VS Code does.

``VsCodeRaw`` is a window that starts local kernelspecs ("Jupyter Kernel…"), ``VsCodeServer`` one
that is connected to a Jupyter server ("Existing Jupyter Server"). Both give
:class:`NotebookKernel`, a :class:`~tests.integration.front_end.FrontEnd`, and neither knows
anything of Clouditia.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests import needs
from tests.integration.front_end import FrontEnd, Ran, Received

from clouditia.testing.home import IsolatedHome

FOLDER = "tests/front_ends/node"
#: For a kernel to start: the extension's own limit. Everything else is much faster.
CALL_S = 90.0
EXIT_S = 10.0


class HarnessError(Exception):
    """What the window would show as an error.

    Attributes:
        status: Of the HTTP answer that caused it.
        details: Facts about the kernel process that caused it.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.status: int | None = error["status"]
        self.details: dict[str, Any] = error["details"] or {}


@dataclass
class NotebookKernel(FrontEnd):
    """One notebook's kernel, seen through ``@jupyterlab/services``.

    Attributes:
        client: The window.
        name: What the harness calls it.
        inbox: Messages that arrived and were not looked at.
        done: How each request ended, by ``msg_id``: the status of its reply, or an error.
        statuses: Of the kernel, as the status bar shows them.
        connections: States of the connection.
        exits: Facts about processes that ended although nobody closed them.
    """

    client: Window
    name: str = ""
    inbox: list[Received] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    exits: list[dict[str, Any]] = field(default_factory=list)

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        buffers: tuple[bytes, ...] = (),
        subshell: str | None = None,
    ) -> str:
        sent = {"type": msg_type, "content": content, "channel": channel, "subshell": subshell}
        return str(self.call("send", **sent, buffers=_encode(buffers)))

    def call(self, operation: str, **arguments: Any) -> Any:
        """Let the window do something with this kernel."""
        return self.client.call(operation, kernel=self.name, **arguments)

    def result(self, msg_id: str) -> Ran:
        """As the base says, and the library must see the cell as done too."""
        ran = super().result(msg_id)
        self.settled(msg_id)
        return ran

    def settled(self, msg_id: str) -> str:
        """How the library sees the end of a request; waits for it."""
        self.client.wait(lambda: msg_id in self.done, f"the end of {msg_id}")
        return self.done[msg_id]

    def answer(self, question: Received, value: str) -> None:
        """Type an answer into the input box."""
        self.call("answer", value=value, parent=question.message["header"])

    def open_comm(self, target: str, data: object, *buffers: bytes) -> tuple[str, str]:
        """Open a comm; returns its id and the ``msg_id`` of the message."""
        opened = self.call("comm_open", target=target, data=data, buffers=_encode(buffers))
        return str(opened["comm_id"]), str(opened["msg_id"])

    def send_to_comm(self, comm_id: str, data: object, *buffers: bytes) -> str:
        """Send on a comm; returns the ``msg_id``."""
        sent = self.call("comm_send", comm_id=comm_id, data=data, buffers=_encode(buffers))
        return str(sent)

    def state(self) -> dict[str, Any]:
        """What the library thinks of the kernel: id, status, connection."""
        state: dict[str, Any] = self.call("state")
        return state

    def _receive(self, timeout_ms: int) -> None:
        with self.client.changed:
            self.client.changed.wait_for(lambda: self.inbox, timeout_ms / 1000)
            self.seen += self.inbox
            self.inbox.clear()


class Window:
    """One window of VS Code: a Node process, its notebooks, and what it logs.

    Args:
        home: The user; None takes this process's environment.
    """

    def __init__(self, home: IsolatedHome | None = None) -> None:
        self.changed = threading.Condition()
        self.logs: list[str] = []
        self._home = home
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._kernels: dict[str, NotebookKernel] = {}
        self._early: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes]
        self._reader: threading.Thread

    def __enter__(self) -> Self:
        node, folder = needs.program("node"), needs.ROOT / FOLDER
        needs.folder(f"{FOLDER}/node_modules", "make front-ends")
        environment = dict(os.environ) if self._home is None else self._home.environment()
        self._process = subprocess.Popen(
            [node, "harness.mjs"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read, name="node-harness", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the window as a crash would: what still runs is not told."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(EXIT_S)
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Of the window, which is the parent of its kernels."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: the window crashed."""
        self._process.kill()
        self._process.wait()

    def call(self, operation: str, **arguments: Any) -> Any:
        """Do one thing and return its result.

        Raises:
            HarnessError: It failed; the message is what the user would see.
        """
        number = next(self._numbers)
        line = json.dumps({"id": number, "op": operation, **arguments}) + "\n"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        self.wait(lambda: number in self._answers, operation, CALL_S)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise HarnessError(answer["error"])
        return answer["result"]

    def wait(self, predicate: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Wait until something that arrives from the window makes ``predicate`` true."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not predicate():
                assert self._process.poll() is None, f"the harness ended with {self.logs[-5:]}"
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout_s:g} s for: {what}; logs: {self.logs[-5:]}"
                self.changed.wait(min(left, 1.0))

    def _adopt(self, name: str) -> NotebookKernel:
        kernel = NotebookKernel(self, name=name)
        with self.changed:
            self._kernels[name] = kernel
            early, self._early = self._early, []
            for event in early:
                self._take_event(event)
        return kernel

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with self.changed:
                if "event" in message:
                    self._take_event(message)
                else:
                    self._answers[message["id"]] = message
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def _take_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "log":
            self.logs.append(event["text"])
        elif event["event"] != "ready":
            kernel = self._kernels.get(event["kernel"])
            if kernel is None:
                self._early.append(event)
            else:
                _deliver(kernel, event)


class VsCodeRaw(Window):
    """A window whose notebooks run on a local kernelspec.

    Args:
        kernelspec: Its name, in ``JUPYTER_DATA_DIR`` of ``home``.
        home: The user.
        folder: Where the notebooks lie; by default the home.
    """

    def __init__(self, kernelspec: str, home: IsolatedHome, folder: Path | None = None) -> None:
        super().__init__(home)
        self.kernelspec = kernelspec
        self.folder = folder or home.directory

    def open_notebook(self, kernelspec: str = "") -> NotebookKernel:
        """Select the kernel for a new notebook and wait until it is ready."""
        spec = kernelspec or self.kernelspec
        started = self.call("raw_start", spec=spec, cwd=str(self.folder))
        return self._adopt(started["kernel"])

    def process(self, kernel: NotebookKernel) -> dict[str, Any]:
        """Facts about the kernel process: pid, connection file, output, exit."""
        facts: dict[str, Any] = kernel.call("raw_process")
        return facts

    def interrupt(self, kernel: NotebookKernel) -> Any:
        """The button; returns the reply to the interrupt request."""
        return kernel.call("raw_interrupt")

    def restart(self, kernel: NotebookKernel) -> dict[str, Any]:
        """The button; returns facts about the new process and, as ``old``, the old one."""
        facts: dict[str, Any] = kernel.call("raw_restart")
        kernel.seen.clear()
        return facts

    def close(self, kernel: NotebookKernel) -> dict[str, Any]:
        """Close the notebook: SIGTERM. Returns the facts about the process once it has ended."""
        kernel.call("raw_close")
        deadline = time.monotonic() + CALL_S
        while True:
            facts = self.process(kernel)
            if facts["exit_code"] is not None or facts["signal"] is not None:
                return facts
            assert time.monotonic() < deadline, f"the kernel process stays: {facts}"


class VsCodeServer(Window):
    """A window that is connected to a Jupyter server.

    Args:
        url: Of the server.
        token: Goes into the URL, as users paste it.
        password: What the user enters where the server asks for one.
    """

    def __init__(self, url: str, token: str = "", password: str = "") -> None:
        super().__init__()
        self._url = f"{url.rstrip('/')}/?token={token}" if token else url
        self._password = password

    def connect(self) -> dict[str, Any]:
        """Enter the URL. Returns whether a password is wanted, the headers, what runs there."""
        found: dict[str, Any] = self.call("server_connect", url=self._url, password=self._password)
        return found

    def kernelspecs(self) -> dict[str, Any]:
        """What the picker shows, by name."""
        specs: dict[str, Any] = self.call("server_specs")["kernelspecs"]
        return specs

    def open_notebook(self, kernelspec: str) -> NotebookKernel:
        """Start a session for a new notebook."""
        return self._adopt(self.call("server_start", spec=kernelspec)["kernel"])

    def attach(self, kernel_id: str) -> NotebookKernel:
        """Select a kernel that runs already."""
        return self._adopt(self.call("server_attach", kernel_id=kernel_id)["kernel"])

    def running(self) -> list[dict[str, Any]]:
        """The kernels that run on the server."""
        models: list[dict[str, Any]] = self.call("server_running")
        return models

    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path and status of every HTTP request so far."""
        keys = ("method", "path", "status")
        return [tuple(each[key] for key in keys) for each in self.call("server_requests")]

    def sockets(self) -> list[dict[str, Any]]:
        """Every websocket so far: path, session id, subprotocol, whether it is open."""
        sockets: list[dict[str, Any]] = self.call("server_sockets")
        return sockets

    def disconnect(self) -> None:
        """Let go of the server."""
        self.call("server_disconnect")


def _deliver(kernel: NotebookKernel, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "message":
        message = event["message"]
        message["buffers"] = [base64.b64decode(each) for each in message["buffers"]]
        kernel.inbox.append(Received(message["channel"], message))
    elif kind == "done":
        kernel.done[event["msg_id"]] = event.get("status") or event.get("error", "")
    elif kind == "status":
        kernel.statuses.append(event["status"])
    elif kind == "connection":
        kernel.connections.append(event["status"])
    elif kind == "exit":
        kernel.exits.append(event)


def _encode(buffers: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(buffer).decode() for buffer in buffers]
