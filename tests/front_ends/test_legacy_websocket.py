"""A websocket without subprotocol, as old clients open it, on a real kernel of a real gateway."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from clouditia.protocol.messages import Message, decode_legacy, encode_json, encode_legacy
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
#: A comm target that sends back what it gets, turned around, in one message with two buffers.
MIRROR = """
def mirror(comm, opened):
    comm.on_msg(lambda m: comm.send({"n": len(m["buffers"])},
                                    buffers=[bytes(m["buffers"][0])[::-1], b"\\xff\\x00"]))
get_ipython().kernel.comm_manager.register_target("mirror", mirror)
"""


class LegacyClient:
    """Sends requests and reads messages; a frame is JSON text or binary with buffers."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.session = uuid.uuid4().hex

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        buffers: tuple[bytes, ...] = (),
    ) -> str:
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "session": self.session,
            "username": "ada",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        message = Message(
            channel, encode_json(header), b"{}", b"{}", encode_json(content), tuple(buffers)
        )
        self.socket.send(encode_legacy(message))
        return msg_id

    def read(self) -> tuple[dict[str, Any], list[bytes]]:
        """The next message and its buffers."""
        frame = self.socket.recv(timeout=WAIT_S)
        if isinstance(frame, str):
            message: dict[str, Any] = json.loads(frame)
            return message, []
        parts = decode_legacy(frame)
        names = ("header", "parent_header", "metadata", "content")
        fields = {name: json.loads(bytes(getattr(parts, name))) for name in names}
        return fields | {"channel": parts.channel}, [bytes(each) for each in parts.buffers]

    def read_until(self, msg_type: str, msg_id: str = "") -> tuple[dict[str, Any], list[bytes]]:
        """The next message of this type, of this request where one is given."""
        while True:
            message, buffers = self.read()
            is_wanted = msg_id in ("", (message["parent_header"] or {}).get("msg_id"))
            if message["header"]["msg_type"] == msg_type and is_wanted:
                return message, buffers

    def execute(self, code: str, *, allow_stdin: bool = False) -> str:
        content = {"code": code, "silent": False, "allow_stdin": allow_stdin}
        return self.send("execute_request", content)


@pytest.fixture(scope="module")
def kernel_id(module_target: LoggedInTarget) -> Iterator[str]:
    gateway = GatewayClient(load_target(module_target.name))
    kernel_id = str(gateway.start_kernel("python3", env={}, path="")["id"])
    wait_until(
        lambda: gateway.get_kernel(kernel_id)["execution_state"] == "idle", WAIT_S, what="idle"
    )
    yield kernel_id
    gateway.shutdown(kernel_id)


@contextmanager
def legacy_client(
    target: LoggedInTarget, kernel_id: str, session_id: str = ""
) -> Iterator[LegacyClient]:
    url = f"ws{target.gateway.url[4:]}/api/kernels/{kernel_id}/channels"
    with connect(
        f"{url}?session_id={session_id or uuid.uuid4().hex}",
        additional_headers={"Authorization": f"token {target.key}"},
        max_size=None,
        proxy=None,
    ) as socket:
        assert socket.subprotocol is None
        yield LegacyClient(socket)


@pytest.fixture
def client(module_target: LoggedInTarget, kernel_id: str) -> Iterator[LegacyClient]:
    with legacy_client(module_target, kernel_id) as connected:
        yield connected


def test_a_cell_answers_in_json_text_with_its_channel_in_each_message(client: LegacyClient) -> None:
    msg_id = client.execute("print('größer')\n6 * 7")
    seen: dict[str, dict[str, Any]] = {}
    while "execute_reply" not in seen or seen["status"]["content"]["execution_state"] != "idle":
        frame = client.socket.recv(timeout=WAIT_S)
        assert isinstance(frame, str)
        message = json.loads(frame)
        if message["parent_header"].get("msg_id") == msg_id:
            seen[message["header"]["msg_type"]] = message
            assert message["msg_type"] == message["header"]["msg_type"]
            assert message["msg_id"] == message["header"]["msg_id"]
            assert message["buffers"] == []
    assert seen["stream"]["content"] == {"name": "stdout", "text": "größer\n"}
    assert seen["execute_result"]["content"]["data"]["text/plain"] == "42"
    assert seen["execute_reply"]["channel"] == "shell"
    assert seen["stream"]["channel"] == "iopub"


def test_a_question_and_its_answer_pass(client: LegacyClient) -> None:
    msg_id = client.execute("print(input('name? ')[::-1])", allow_stdin=True)
    question, _ = client.read_until("input_request", msg_id)
    assert (question["channel"], question["content"]["prompt"]) == ("stdin", "name? ")
    client.send("input_reply", {"value": "Ada"}, channel="stdin")
    printed, _ = client.read_until("stream", msg_id)
    assert printed["content"]["text"] == "adA\n"


def test_buffers_pass_both_ways_in_binary_frames(client: LegacyClient) -> None:
    sent = os.urandom(200_000)
    client.read_until("execute_reply", client.execute(MIRROR))
    comm = {"comm_id": "c1"}
    client.send("comm_open", comm | {"target_name": "mirror", "data": {}})
    client.send("comm_msg", comm | {"data": {}}, buffers=(sent, b"second"))
    message, buffers = client.read_until("comm_msg")
    assert message["content"]["data"] == {"n": 2}
    assert buffers == [sent[::-1], b"\xff\x00"]


def test_what_was_printed_during_an_absence_is_there_for_the_same_session_id(
    module_target: LoggedInTarget, kernel_id: str
) -> None:
    gateway, session_id = GatewayClient(load_target(module_target.name)), uuid.uuid4().hex
    with legacy_client(module_target, kernel_id, session_id) as first:
        msg_id = first.execute("import time\nprint('on', flush=True)\nwhile True: time.sleep(0.01)")
        first.read_until("stream", msg_id)
    gateway.interrupt(kernel_id)
    with legacy_client(module_target, kernel_id, session_id) as second:
        error, _ = second.read_until("error", msg_id)
        assert error["content"]["ename"] == "KeyboardInterrupt"
        reply, _ = second.read_until("execute_reply", msg_id)
        assert reply["content"]["status"] == "error"
