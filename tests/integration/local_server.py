"""A Jupyter server on the laptop's side, in a process of its own, and one notebook client of it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Self

import requests
from websockets.sync.client import connect

from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until

TOKEN = "local"
START_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 60.0


class NotebookClient:
    """One notebook page: sends cells and reads what comes back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        headers = {"Authorization": f"token {TOKEN}"}
        connection = connect(
            self._url, additional_headers=headers, max_size=None, open_timeout=REPLY_TIMEOUT_S
        )
        self._socket = self._closing.enter_context(connection)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closing.close()

    def send(self, code: str, *, stdin: bool = False) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": stdin}
        content["stop_on_error"] = False  # an error would abort what comes within 0.1 s after it
        return self.send_message("execute_request", content)

    def answer(self, value: str, parent: str) -> None:
        """Answer the question of a request."""
        self.send_message("input_reply", {"value": value, "status": "ok"}, "stdin", parent)

    def send_message(
        self,
        msg_type: str,
        content: dict[str, Any],
        channel: str = "shell",
        parent: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> str:
        msg_id = str(uuid.uuid4())
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": "s",
            "username": "u",
            "version": "5.4",
            "date": "2026-01-01T00:00:00Z",
        }
        message = {
            "header": header,
            "parent_header": {"msg_id": parent} if parent else {},
            "metadata": metadata or {},
            "content": content,
            "buffers": [],
            "channel": channel,
        }
        self._socket.send(json.dumps(message))
        return msg_id

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=REPLY_TIMEOUT_S))
        return message

    def read_until(self, msg_type: str, msg_id: str) -> tuple[dict[str, Any], str]:
        """Content of the first such message of a request, and what the request printed so far."""
        printed = ""
        while True:
            message = self.receive()
            if (message.get("parent_header") or {}).get("msg_id") != msg_id:
                continue
            kind = message["header"]["msg_type"]
            if kind == "stream":
                printed += message["content"]["text"]
            if kind == msg_type:
                return message["content"], printed

    def run(self, code: str) -> tuple[str, str]:
        """Status of the reply and the printed text."""
        msg_id = self.send(code)
        reply: dict[str, Any] | None = None
        printed, is_idle = "", False
        while reply is None or not is_idle:
            message = self.receive()
            if (message.get("parent_header") or {}).get("msg_id") != msg_id:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
            elif kind == "execute_reply":
                reply = content
            elif kind == "status":
                is_idle = content["execution_state"] == "idle"
        return str(reply["status"]), printed


class LocalServer:
    """``jupyter server`` as the user of an isolated home runs it."""

    def __init__(
        self, home: IsolatedHome, *options: str, environment: dict[str, str] | None = None
    ) -> None:
        self._home = home
        self._options = options
        self._environment = home.environment() | (environment or {})
        self._url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.log = home.directory / f"server-{uuid.uuid4()}.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"]
        command += ["--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}", *self._options]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._home.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._url = wait_until(self._find_url, START_TIMEOUT_S, what="the server listens")
        except AssertionError:
            self.__exit__()
            raise AssertionError(self.log.read_text()) from None
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _find_url(self) -> str:
        assert self._process is not None
        runtime = Path(self._home.environment()["JUPYTER_RUNTIME_DIR"])
        path = runtime / f"jpserver-{self._process.pid}.json"
        if self._process.poll() is not None:
            raise AssertionError("the server ended")
        try:
            url = str(json.loads(path.read_text())["url"]).rstrip("/")
            return url if requests.get(f"{url}/api", timeout=5).ok else ""
        except (OSError, ValueError, requests.RequestException):
            return ""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method,
            self._url + path,
            json=body,
            headers={"Authorization": f"token {TOKEN}"},
            timeout=60,
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def open_session(self, kernel: str, path: str = "a.ipynb") -> dict[str, Any]:
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
        session: dict[str, Any] = self.request("POST", "/api/sessions", body)
        return session

    def client(self, kernel_id: str) -> NotebookClient:
        return NotebookClient(self.channels_url(kernel_id))

    def channels_url(self, kernel_id: str) -> str:
        """The websocket of a kernel for a page of its own."""
        websocket = self._url.replace("http", "ws", 1) + f"/api/kernels/{kernel_id}/channels"
        return f"{websocket}?session_id={uuid.uuid4()}"
