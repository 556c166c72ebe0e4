"""What a bridge test needs around the bridge: a gateway with a scripted kernel, and a front end.

The gateway speaks the real link protocol (``Link`` in the host's role), so that what is tested is
the bridge's end of it; the kernel behind it does what the first word of the code says.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from clouditia.protocol.handshake import SUBPROTOCOL, Welcome
from clouditia.protocol.link import Delivered, Event, HelloReceived, Link, Role
from clouditia.protocol.messages import (
    Buffer,
    Message,
    decode_json,
    decode_v1,
    encode_json,
    encode_v1,
)
from clouditia.rest import PROTOCOL_HEADER
from clouditia.settings import Target, save_target, store_key
from clouditia.testing.waiting import wait_until
from clouditia.transport.link_runner import LinkRunner, TransportClosed

KEY = "ck_test_0123456789abcdef"


class ListJournal:
    """Every message of the kernel, for ever."""

    first_seq = 1

    def __init__(self) -> None:
        self.messages: list[list[Buffer]] = []

    @property
    def next_seq(self) -> int:
        return len(self.messages) + 1

    def read(self, seq: int) -> list[Buffer]:
        return list(self.messages[seq - 1])

    def release(self, ack: int) -> None:
        """Acknowledgements move cursors only."""

    def rebase(self, next_seq: int) -> None:
        """Only a client's outbox is renumbered."""


class ScriptedKernel:
    """A kernel and its host in one: journal, links, and what the code says.

    ``print N``: N lines. ``input``: asks and prints the answer. ``block``: until interrupted.
    ``die``: the process ends. ``mute``: no reply at all. ``buffer N``: a display with N bytes.
    """

    def __init__(self, kernel_id: str) -> None:
        self.kernel_id = kernel_id
        self.epoch = 1
        self.state = "idle"
        self.told_state: str | None = None  # what the gateway believes, where it is behind
        self.journal = ListJournal()
        self.links: dict[str, Link] = {}
        self.runners: dict[str, LinkRunner] = {}
        self.requests: list[tuple[str, str]] = []
        self.commands: list[str] = []
        self.hellos: list[dict[str, Any]] = []
        self.holds_info = False
        self.is_ended = False
        self.answers_shutdown = True
        self._blocked: Message | None = None
        self._asking: Message | None = None
        self._count = 0

    # --- host -----------------------------------------------------------------------------------

    async def serve(self, transport: Any) -> None:
        """One connection of one client."""
        with suppress(TransportClosed):
            first = await transport.receive()
            fields = json.loads(bytes(first)[1:])
            self.hellos.append(fields)
            client_id = fields["client_id"]
            if client_id not in self.links:
                link = Link(Role.HOST, self.journal)
                self.links[client_id] = link
                self.runners[client_id] = LinkRunner(
                    link, on_event=lambda event: self._on_event(link, event)
                )
            await self.runners[client_id].run(transport, first)

    def _on_event(self, link: Link, event: Event) -> None:
        if isinstance(event, HelloReceived):
            hello = event.hello
            start = hello.received + 1 if hello.received else hello.start
            following = start if isinstance(start, int) else self.journal.next_seq
            state = {"execution_state": self.state, "epoch": self.epoch, "exit": None}
            link.accept(
                Welcome(self.kernel_id, self.epoch, link.received, following, 2**23, state),
                time.monotonic(),
            )
        elif isinstance(event, Delivered):
            self._take(decode_v1(bytes(event.frame)))
            link.handled(event.seq)

    def emit(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        parent: Message | None = None,
        buffers: tuple[Buffer, ...] = (),
    ) -> None:
        """Write one message to the journal and wake every link."""
        self._count += 1
        header = {"msg_id": f"k{self._count}", "msg_type": msg_type, "session": "kernel"}
        header |= {"username": "k", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        message = Message(
            channel,
            encode_json(header),
            b"{}" if parent is None else parent.header,
            b"{}",
            encode_json(content),
            buffers,
        )
        self.journal.messages.append(encode_v1(message))
        for runner in self.runners.values():
            runner.wake()

    # --- kernel ---------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        msg_type = str(decode_json(message.header)["msg_type"])
        self.requests.append((msg_type, str(decode_json(message.header)["msg_id"])))
        handler = getattr(self, f"_on_{msg_type}", None)
        if handler is not None:
            handler(message, decode_json(message.content))

    def _status(self, state: str, parent: Message) -> None:
        self.emit("iopub", "status", {"execution_state": state}, parent)

    def _done(self, parent: Message, **content: Any) -> None:
        reply = {"status": "ok", "execution_count": 1, **content}
        msg_type = str(decode_json(parent.header)["msg_type"]).replace("_request", "_reply")
        self.emit(parent.channel, msg_type, reply, parent)
        self._status("idle", parent)

    def _on_kernel_info_request(self, message: Message, content: dict[str, Any]) -> None:
        if self.holds_info and message.channel == "shell":
            return
        self._status("busy", message)
        self._done(message, protocol_version="5.3", implementation="scripted", banner="hi")

    def _on_execute_request(self, message: Message, content: dict[str, Any]) -> None:
        word, *rest = content["code"].split()
        self._status("busy", message)
        if word == "print":
            for number in range(int(rest[0])):
                self.emit("iopub", "stream", {"name": "stdout", "text": f"#{number}\n"}, message)
            self._done(message)
        elif word == "buffer":
            display: dict[str, Any] = {"data": {}, "metadata": {}, "transient": {}}
            self.emit("iopub", "display_data", display, message, (b"x" * int(rest[0]),))
            self._done(message)
        elif word == "input":
            self._asking = message
            self.emit("stdin", "input_request", {"prompt": "? ", "password": False}, message)
        elif word == "block":
            self._blocked = message
        elif word == "die":
            self._die(message)

    def _die(self, message: Message) -> None:
        exit_report = {"epoch": self.epoch, "exit_code": None, "signal": "SIGKILL"}
        exit_report |= {"reason": "killed by SIGKILL", "last_stderr": "the last words"}
        self.state = "dead"
        self.emit("clouditia", "kernel_exited", {**exit_report, "expected": False})
        self._done(message, status="error", ename="KernelDied", evalue="SIGKILL", traceback=[])

    def _on_input_reply(self, message: Message, content: dict[str, Any]) -> None:
        assert self._asking is not None
        self.emit("iopub", "stream", {"name": "stdout", "text": content["value"]}, self._asking)
        self._done(self._asking)

    def _on_comm_msg(self, message: Message, content: dict[str, Any]) -> None:
        self.emit("iopub", "comm_msg", content, message, message.buffers)

    def _on_interrupt_request(self, message: Message, content: dict[str, Any]) -> None:
        self._interrupt()
        self._done(message)

    def _interrupt(self) -> None:
        if self._blocked is not None:
            blocked, self._blocked = self._blocked, None
            error = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
            self._done(blocked, status="error", **error)

    def _on_shutdown_request(self, message: Message, content: dict[str, Any]) -> None:
        if not self.answers_shutdown:
            return
        self._done(message, restart=content["restart"])
        if content["restart"]:
            self.restart()
        else:
            self.end()

    def restart(self) -> None:
        self.epoch += 1
        self.emit("clouditia", "kernel_state", {"epoch": self.epoch, "execution_state": "starting"})

    def end(self) -> None:
        self.is_ended = True
        self.emit("clouditia", "kernel_ended", {"reason": "shut down"})

    def _on_command(self, message: Message, content: dict[str, Any]) -> None:
        self.commands.append(content["command"])
        if content["command"] == "interrupt":
            self._interrupt()
        elif content["command"] == "restart":
            self.state = "idle"
            self.restart()
        elif content["command"] == "shutdown":
            self.end()


class _SocketTransport:
    """The server's end of a websocket as a ``FrameTransport``."""

    def __init__(self, handler: tornado.websocket.WebSocketHandler) -> None:
        self.handler = handler
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, parts: list[Buffer]) -> None:
        try:
            await self.handler.write_message(b"".join(parts), binary=True)
        except tornado.websocket.WebSocketClosedError:
            raise TransportClosed from None

    async def receive(self) -> bytes:
        frame = await self.frames.get()
        if frame is None:
            raise TransportClosed
        return frame

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.handler.close(code, reason)


class _Channels(tornado.websocket.WebSocketHandler):
    def initialize(self, gateway: FakeGateway) -> None:
        self.gateway = gateway

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    def prepare(self) -> None:
        if self.gateway.refuses_links:
            self.gateway.refusals += 1
            raise tornado.web.HTTPError(503)
        if self.gateway.is_key_revoked:
            raise tornado.web.HTTPError(401)

    async def open(self, kernel_id: str) -> None:
        self.set_nodelay(True)
        self.transport = _SocketTransport(self)
        self.gateway.sockets.add(self)
        kernel = self.gateway.kernels[kernel_id]
        task = asyncio.create_task(kernel.serve(self.transport))
        self.gateway.tasks.add(task)
        task.add_done_callback(self.gateway.tasks.discard)

    def on_message(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        self.transport.frames.put_nowait(message)

    def on_close(self) -> None:
        self.gateway.sockets.discard(self)
        self.transport.frames.put_nowait(None)

    def cut(self) -> None:
        """Break the TCP connection without a closing handshake."""
        self.ws_connection.stream.close()  # type: ignore[union-attr]


class _Kernels(tornado.web.RequestHandler):
    def initialize(self, gateway: FakeGateway) -> None:
        self.gateway = gateway

    def prepare(self) -> None:
        self.set_header(PROTOCOL_HEADER, "1")
        if self.request.headers.get("Authorization") != f"token {KEY}":
            self.refuse(401, "authentication", "this key is not known")

    def refuse(self, status: int, code: str, message: str) -> None:
        self.set_status(status)
        self.finish({"code": code, "message": message})

    def get(self, kernel_id: str) -> None:
        if self.gateway.refuses_links:
            self.gateway.refusals += 1
            raise tornado.web.HTTPError(503)
        if kernel_id not in self.gateway.kernels:
            self.refuse(404, "kernel_not_found", f"there is no kernel {kernel_id}")
            return
        kernel = self.gateway.kernels[kernel_id]
        state = kernel.told_state or kernel.state
        self.finish({"id": kernel_id, "execution_state": state})

    def post(self, kernel_id: str = "", action: str = "") -> None:
        if action == "restart":
            kernel = self.gateway.kernels[kernel_id]
            kernel.state = "idle"
            kernel.restart()
            self.finish({"id": kernel_id})
            return
        body = json.loads(self.request.body)
        self.gateway.posts.append(body)
        if body["name"] == "missing":
            self.refuse(404, "config", "there is no kernelspec 'missing'")
            return
        kernel_id = body.get("kernel_id") or "k-1"
        self.gateway.kernels[kernel_id] = ScriptedKernel(kernel_id)
        self.set_status(201)
        self.finish({"id": kernel_id})

    async def delete(self, kernel_id: str) -> None:
        self.gateway.deletes.append(kernel_id)
        if self.gateway.is_slow_to_delete:
            await self.gateway.never.wait()
        self.gateway.kernels[kernel_id].end()
        self.set_status(204)


class FakeGateway:
    """Serves kernels on a loopback port from a thread of its own."""

    def __init__(self) -> None:
        self.kernels: dict[str, ScriptedKernel] = {}
        self.posts: list[dict[str, Any]] = []
        self.deletes: list[str] = []
        self.sockets: set[_Channels] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.refuses_links = False
        self.refusals = 0
        self.is_key_revoked = False
        self.is_slow_to_delete = False
        self.url = ""
        self.loop = asyncio.new_event_loop()
        self.never = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fake-gateway")
        self._thread.start()
        ready.wait(10)

    @property
    def kernel(self) -> ScriptedKernel:
        """The only kernel."""
        (kernel,) = self.kernels.values()
        return kernel

    def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` in the gateway's thread."""

        async def on_the_loop() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(on_the_loop(), self.loop).result(10)

    def cut(self, *, refuse: bool) -> None:
        """Break every websocket; new ones are refused with 503 while ``refuse``."""

        def on_the_loop() -> None:
            self.refuses_links = refuse
            for socket in list(self.sockets):
                socket.cut()

        self.call(on_the_loop)

    def heal(self) -> None:
        self.refuses_links = False

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        options = {"gateway": self}
        application = tornado.web.Application(
            [
                (r"/api/kernels", _Kernels, options),
                (r"/api/kernels/([^/]+)", _Kernels, options),
                (r"/api/kernels/([^/]+)/(restart)", _Kernels, options),
                (r"/api/kernels/([^/]+)/channels", _Channels, options),
            ],
            websocket_max_message_size=2**30,
        )
        server = tornado.httpserver.HTTPServer(application)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        server.add_sockets(sockets)
        self.loop.call_soon(ready.set)
        self.loop.run_forever()
        server.stop()
        self.loop.run_until_complete(self._drain(server))
        self.loop.close()
        asyncio.set_event_loop(None)

    async def _drain(self, server: tornado.httpserver.HTTPServer) -> None:
        for socket in list(self.sockets):
            socket.cut()
        await server.close_all_connections()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class RunningBridge:
    """A bridge process and the connection file that it serves."""

    def __init__(self, process: subprocess.Popen[bytes], connection_file: Path) -> None:
        self.process = process
        self.connection_file = connection_file

    @property
    def state(self) -> dict[str, Any]:
        """Content of the state file; empty before there is one."""
        try:
            fields: dict[str, Any] = json.loads(
                Path(f"{self.connection_file}.clouditia").read_text()
            )
        except FileNotFoundError:
            return {}
        return fields

    def exit_code(self, timeout_s: float = 10.0) -> int:
        return self.process.wait(timeout_s)

    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def write_target(
    url: str, *, name: str = "fake", on_close: Any = "shutdown", key: str = KEY
) -> None:
    """Save a target; by default with the key that the fake gateway knows."""
    save_target(Target(name, url, key_file=store_key(name, key), on_close=on_close))


def bridge_command(connection_file: Path, *arguments: str, target: str = "fake") -> list[str]:
    """The bridge's command line, with an argument that only ipykernel knows."""
    module = [sys.executable, "-m", "clouditia.bridge.process"]
    own = ["--target", target, "--kernel", "python3", *arguments, "-f", str(connection_file)]
    return [*module, *own, "--HistoryManager.hist_file=:memory:"]


@contextmanager
def running_bridge(
    directory: Path, *arguments: str, target: str = "fake", **environment: str
) -> Iterator[RunningBridge]:
    """Start a bridge on a fresh connection file; it is killed at the end if it still runs."""
    path = directory / "kernel-test.json"
    if not path.exists():
        write_connection_file(str(path), ip="127.0.0.1", key=b"secret")
    process = subprocess.Popen(
        bridge_command(path, *arguments, target=target),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )
    bridge = RunningBridge(process, path)
    try:
        yield bridge
    finally:
        bridge.kill()


@contextmanager
def connected_client(
    bridge: RunningBridge, *, is_ready: bool = True
) -> Iterator[BlockingKernelClient]:
    """A front end on the bridge; waits for kernel_info and iopub where it shall be ready."""
    client = BlockingKernelClient(connection_file=str(bridge.connection_file))
    client.load_connection_file()
    # Without the heartbeat, which declares a kernel dead that takes a second to start.
    client.start_channels(hb=False)
    try:
        if is_ready:
            client.wait_for_ready(timeout=15)
        yield client
    finally:
        client.stop_channels()
        client.context.destroy(linger=0)


def collect(
    client: BlockingKernelClient, msg_id: str, timeout_s: float = 15.0
) -> list[dict[str, Any]]:
    """The iopub messages of one request, up to and including its idle."""
    messages: list[dict[str, Any]] = []

    def is_idle() -> bool:
        message = client.get_iopub_msg(timeout=timeout_s)
        if message["parent_header"].get("msg_id") == msg_id:
            messages.append(message)
        return message in messages and message["content"].get("execution_state") == "idle"

    wait_until(is_idle, timeout_s, what="idle", interval_s=0.0)
    return messages


def text_of(messages: list[dict[str, Any]]) -> str:
    """All stream text."""
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


def reply_to(client: BlockingKernelClient, msg_id: str, timeout_s: float = 15.0) -> dict[str, Any]:
    """The shell reply to one request; those to a slow start's repeated kernel_info are skipped."""
    while True:
        message: dict[str, Any] = client.get_shell_msg(timeout=timeout_s)
        if message["parent_header"]["msg_id"] == msg_id:
            return message
        assert message["msg_type"] == "kernel_info_reply"
