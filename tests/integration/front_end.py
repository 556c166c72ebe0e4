"""A front end that keeps every message it receives, so that tests can ask for any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client.manager import KernelManager

WAIT_S = 30.0
CHANNELS = ("shell", "control", "iopub", "stdin")


@dataclass(frozen=True)
class Received:
    """One message and the channel it came in on."""

    channel: str
    message: dict[str, Any]

    @property
    def msg_type(self) -> str:
        return str(self.message["header"]["msg_type"])

    @property
    def parent(self) -> str:
        return str(self.message["parent_header"].get("msg_id", ""))

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = self.message["content"]
        return content

    @property
    def buffers(self) -> list[bytes]:
        return [bytes(buffer) for buffer in self.message["buffers"]]

    @property
    def is_idle(self) -> bool:
        return self.msg_type == "status" and self.content["execution_state"] == "idle"


@dataclass
class Ran:
    """What came back for one request: its reply and its iopub messages, in order."""

    reply: Received
    outputs: list[Received]

    def of(self, *msg_types: str) -> list[dict[str, Any]]:
        """Contents of the outputs of these types."""
        return [each.content for each in self.outputs if each.msg_type in msg_types]

    def text(self, stream: str = "stdout") -> str:
        return "".join(each["text"] for each in self.of("stream") if each["name"] == stream)


@dataclass
class FrontEnd:
    """One client on one kernel."""

    client: Any
    seen: list[Received] = field(default_factory=list)

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        buffers: tuple[bytes, ...] = (),
        subshell: str | None = None,
    ) -> str:
        """Send a message, to a subshell if one is named; returns its ``msg_id``."""
        message = self.client.session.msg(msg_type, content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        message["buffers"] = list(buffers)
        self._channel(channel).send(message)
        return str(message["header"]["msg_id"])

    def execute(
        self,
        code: str,
        *,
        allow_stdin: bool = False,
        stop_on_error: bool = False,
        subshell: str | None = None,
    ) -> str:
        """Send code; after an error with ``stop_on_error`` the next may be aborted, too."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": stop_on_error,
        }
        return self.send("execute_request", content, subshell=subshell)

    def run(self, code: str) -> Ran:
        """Execute ``code`` to its end."""
        return self.result(self.execute(code))

    def ask(self, msg_type: str, content: dict[str, Any], *, channel: str = "shell") -> Any:
        """Send a request and return the content of its reply."""
        return self.reply(self.send(msg_type, content, channel=channel)).content

    def result(self, msg_id: str) -> Ran:
        """Wait for the reply to ``msg_id`` and its idle, in whatever order they come."""
        reply = self.reply(msg_id)
        self.wait(lambda each: each.parent == msg_id and each.is_idle, f"idle of {msg_id}")
        of_request = [each for each in self.seen if each.parent == msg_id]
        return Ran(reply, [each for each in of_request if each.channel == "iopub"])

    def reply(self, msg_id: str) -> Received:
        return self.wait(
            lambda each: each.parent == msg_id and each.msg_type.endswith("_reply"),
            f"the reply to {msg_id}",
        )

    def printed(self, msg_id: str, text: str) -> Received:
        """Wait until the request has printed ``text``."""
        return self.wait(
            lambda each: each.parent == msg_id and text in each.content.get("text", ""),
            f"{text!r} printed",
        )

    def prompt(self, msg_id: str) -> Received:
        """Wait for the next question of the request."""
        asked = self.wait(
            lambda each: each.parent == msg_id and each.msg_type == "input_request",
            f"a question of {msg_id}",
        )
        self.seen.remove(asked)
        return asked

    def wait(self, matches: Callable[[Received], bool], what: str) -> Received:
        """Return the first message, received already or within ``WAIT_S``, that matches."""
        deadline, looked_at = time.monotonic() + WAIT_S, 0
        while True:
            for each in self.seen[looked_at:]:
                if matches(each):
                    return each
            looked_at = len(self.seen)
            assert time.monotonic() < deadline, f"no {what} in {WAIT_S:g} s; last: {self.seen[-5:]}"
            self._receive(timeout_ms=100)

    def _receive(self, timeout_ms: int) -> None:
        poller = zmq.Poller()
        channels = {self._channel(name).socket: name for name in CHANNELS}
        for socket in channels:
            poller.register(socket, zmq.POLLIN)
        for socket, _ in poller.poll(timeout_ms):
            name = channels[socket]
            self.seen.append(Received(name, self._channel(name).get_msg(timeout=0)))

    def _channel(self, name: str) -> Any:
        return getattr(self.client, f"{name}_channel")


@contextmanager
def connected(manager: Any) -> Iterator[FrontEnd]:
    """Connect one more client to a managed kernel; it has its own session."""
    client = manager.blocking_client()
    client.session = type(client.session)(key=client.session.key)
    client.start_channels(hb=False)
    try:
        client.wait_for_ready(timeout=WAIT_S)
        yield FrontEnd(client)
    finally:
        client.stop_channels()


@contextmanager
def started(kernel_name: str) -> Iterator[Any]:
    """Start a kernel of that kernelspec; shut down at the end."""
    manager: Any = KernelManager(kernel_name=kernel_name)
    manager.start_kernel()
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
