"""What a kernel-host test needs around it: a fake gateway, the real host process, and clients.

The gateway speaks only docs/host-protocol.md; the client's end of each link is in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
from tests.integration.host_fake_gateway import WAIT_S, FakeGateway, ServerTransport

from clouditia.protocol.handshake import Hello
from clouditia.protocol.link import Delivered, Event, GapSeen, Link, Online, Outbox, Role
from clouditia.protocol.messages import Message, decode_json, decode_v1, encode_json, encode_v1
from clouditia.testing.waiting import wait_until, wait_until_async
from clouditia.transport.link_runner import LinkRunner

PYTHON_ARGV = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
BASH_ARGV = ["python", "-m", "bash_kernel", "-f", "{connection_file}"]


class Client:
    """One client of the kernel, with its outbox and all that it was sent."""

    def __init__(self, gateway: FakeGateway, client_id: str = "client", **hello: Any) -> None:
        self.session = uuid.uuid4().hex
        self.messages: list[Message] = []
        self.seqs: list[int] = []
        self.gaps: list[tuple[int, int]] = []
        self.online = asyncio.Event()
        self.welcome: Any = None
        self.outbox = Outbox()
        self.link = Link(Role.CLIENT, self.outbox, hello=Hello(client_id, **hello))
        self.runner = LinkRunner(self.link, on_event=self._on_event)
        self._gateway = gateway
        self._task: asyncio.Task[Any] | None = None
        self._transport: ServerTransport | None = None
        self.ended: Any = None

    async def connect(self) -> Client:
        self._transport = await self._gateway.open()
        self.online.clear()
        self._task = asyncio.create_task(self.runner.run(self._transport))
        self._task.add_done_callback(self._ended)
        async with asyncio.timeout(WAIT_S):
            await self.online.wait()
        return self

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            self.ended = task.result()

    async def cut(self) -> None:
        """Lose the connection without a goodbye."""
        assert self._transport is not None
        assert self._task is not None
        self._transport._connection.transport.abort()
        await asyncio.wait([self._task])

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Delivered):
            self.messages.append(decode_v1(bytes(event.frame)))
            self.seqs.append(event.seq)
            self.link.handled(event.seq)
        elif isinstance(event, GapSeen):
            self.gaps.append((event.first, event.last))
            self.link.handled(event.last)
        elif isinstance(event, Online):
            self.welcome = event.welcome
            self.online.set()

    # --- asking ----------------------------------------------------------------------------------

    def send(
        self, channel: str, msg_type: str, content: dict[str, Any], msg_id: str | None = None
    ) -> str:
        msg_id = msg_id or uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": self.session,
            "username": "ada",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        message = Message(channel, encode_json(header), b"{}", b"{}", encode_json(content))
        self.outbox.append(encode_v1(message))
        self.runner.wake()
        return msg_id

    def execute(self, code: str, msg_id: str | None = None, *, silent: bool = False) -> str:
        content = {"code": code, "silent": silent, "allow_stdin": False, "stop_on_error": True}
        return self.send("shell", "execute_request", content, msg_id)

    def command(self, command: str) -> None:
        self.send("clouditia", "command", {"id": "c1", "command": command})

    # --- what came -------------------------------------------------------------------------------

    def of(self, msg_type: str, parent: str | None = None) -> list[dict[str, Any]]:
        """Contents of all messages of a type, for one parent where that is given."""
        return [
            decode_json(message.content)
            for message in self.messages
            if decode_json(message.header)["msg_type"] == msg_type
            and parent in (None, decode_json(message.parent_header).get("msg_id"))
        ]

    def text(self, parent: str, name: str = "stdout") -> str:
        streams = self.of("stream", parent)
        return "".join(content["text"] for content in streams if content["name"] == name)

    def replies(self, parent: str) -> list[dict[str, Any]]:
        return [
            decode_json(message.content)
            for message in self.messages
            if message.channel in ("shell", "control")
            and decode_json(message.parent_header).get("msg_id") == parent
        ]

    def is_done(self, parent: str) -> bool:
        statuses = [content["execution_state"] for content in self.of("status", parent)]
        return bool(self.replies(parent)) and "idle" in statuses

    async def done(self, parent: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The reply, once reply and idle are there."""
        await wait_until_async(
            lambda: self.is_done(parent), timeout_s, what=f"request {parent} is answered"
        )
        replies = self.replies(parent)
        assert len(replies) == 1, replies
        return replies[0]

    async def run(self, code: str, timeout_s: float = WAIT_S) -> str:
        """Execute and return what was printed."""
        msg_id = self.execute(code)
        reply = await self.done(msg_id, timeout_s)
        assert reply["status"] == "ok", reply
        return self.text(msg_id)

    async def sees(self, msg_type: str, timeout_s: float = WAIT_S, **fields: Any) -> dict[str, Any]:
        """The first message of that type with those fields in its content."""

        def found() -> dict[str, Any] | None:
            for content in self.of(msg_type):
                if all(content.get(name) == value for name, value in fields.items()):
                    return content
            return None

        content = await wait_until_async(found, timeout_s, what=f"{msg_type} {fields}")
        assert content is not None
        return content


class HostProcess:
    """A kernel's directory and the host processes that serve it."""

    def __init__(self, root: Path, gateway: FakeGateway, **launch: Any) -> None:
        self.kernel_id = str(uuid.uuid4())
        self.directory = root / "k" / self.kernel_id[:8]
        self.directory.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []  # a program that becomes the host
        self.host_env: dict[str, str] = {}
        self.fields: dict[str, Any] = {
            "format": 1,
            "kernel_id": self.kernel_id,
            "fence": 1,
            "token": "host-token",
            "gateway_file": str(gateway.file),
            "directory": str(self.directory),
            "kernel_name": "python3",
            "display_name": "Python 3",
            "language": "python",
            "argv": PYTHON_ARGV,
            "env": {**os.environ, "IPYTHONDIR": str(root / "ipython")},
            "cwd": str(root),
            "interrupt_mode": "signal",
            "supports_ipc": True,
            "retention": {"max_bytes": 2**30, "max_age_s": 7 * 86400.0},
            **launch,
        }

    def start(self, **changes: Any) -> HostProcess:
        self.fields.update(changes)
        launch = self.directory / "launch.json"
        launch.write_text(json.dumps(self.fields))
        with (self.directory / "host.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "clouditia_gateway.host", str(launch)],
                env={**os.environ, **self.host_env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.directory / "host.log").read_text()

    def host_file(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads((self.directory / "host.json").read_text())
        return fields

    def wait_exit(self, timeout_s: float = WAIT_S) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    async def exited(self, timeout_s: float = WAIT_S) -> int:
        assert self.process is not None
        poll = self.process.poll
        await wait_until_async(lambda: poll() is not None, timeout_s, what="the host has exited")
        return self.process.returncode

    def tree(self) -> list[psutil.Process]:
        """The host and all processes below it."""
        return [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL the host; what is below it must go by itself."""
        assert self.process is not None
        below = self.tree() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, below)), 10, what="all of the host is gone")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Scene:
    """A fake gateway with one kernel host, and clients on demand."""

    def __init__(self, root: Path, **launch: Any) -> None:
        self.gateway = FakeGateway(root)
        self.host = HostProcess(root, self.gateway, **launch)
        self._clients: list[Client] = []

    async def client(self, client_id: str = "client", **hello: Any) -> Client:
        client = Client(self.gateway, client_id, **hello)
        self._clients.append(client)
        return await client.connect()

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()
        if self.host.process is not None:
            await asyncio.to_thread(self.host.kill)
        await self.gateway.stop()


@contextlib.asynccontextmanager
async def scene(root: Path, *, start: bool = True, **launch: Any) -> AsyncIterator[Scene]:
    made = Scene(root, **launch)
    await made.gateway.start()
    try:
        if start:
            made.host.start()
        yield made
    except BaseException:
        print(made.host.log if made.host.process else "the host was never started")
        raise
    finally:
        await made.aclose()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await test()

    asyncio.run(limited())
