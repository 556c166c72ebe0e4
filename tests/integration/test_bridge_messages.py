"""Messages through the bridge process, between a real jupyter_client and a scripted kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.connect import write_connection_file
from tests.integration.bridge_fakes import (
    FakeGateway,
    ScriptedKernel,
    collect,
    connected_client,
    reply_to,
    running_bridge,
    text_of,
    write_target,
)

from clouditia.testing.waiting import wait_until


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    monkeypatch.setenv("CLOUDITIA_CONFIG_DIR", str(tmp_path / "config"))
    gateway = FakeGateway()
    write_target(gateway.url)
    yield gateway
    gateway.close()


def lines(count: int) -> str:
    return "".join(f"#{number}\n" for number in range(count))


def test_a_front_end_executes_code_and_gets_output_and_reply(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("print 1000")
        assert text_of(collect(client, msg_id)) == lines(1000)
        assert reply_to(client, msg_id)


def test_input_is_asked_and_answered_through_the_front_end(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("input", allow_stdin=True)
        question = client.get_stdin_msg(timeout=15)
        assert question["content"]["prompt"] == "? "
        assert question["parent_header"]["msg_id"] == msg_id
        client.input("forty-two")
        assert text_of(collect(client, msg_id)) == "forty-two"


def test_an_interrupt_request_reaches_a_busy_kernel_and_is_answered(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("block")
        interrupt = client.session.msg("interrupt_request", {})
        client.control_channel.send(interrupt)
        reply = client.get_control_msg(timeout=15)
        assert reply["parent_header"]["msg_id"] == interrupt["header"]["msg_id"]
        assert reply_to(client, msg_id)["content"]["ename"] == "KeyboardInterrupt"
        assert collect(client, msg_id)


@pytest.mark.parametrize("size", [10, 1_000_000, 12_000_000])
def test_binary_buffers_arrive_byte_for_byte_in_both_directions(
    gateway: FakeGateway, tmp_path: Path, size: int
) -> None:
    buffer = os.urandom(size)
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        message = client.session.msg("comm_msg", {"comm_id": "c", "data": {}})
        client.session.send(client.shell_channel.socket, message, buffers=[buffer])
        echo: dict[str, Any] | None = wait_until(
            lambda: next(
                (m for m in [client.get_iopub_msg(timeout=10)] if m["msg_type"] == "comm_msg"), None
            ),
            15,
        )
        assert echo is not None
        assert [bytes(part) for part in echo["buffers"]] == [buffer]


def test_messages_that_are_not_signed_with_the_key_are_ignored(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        client.session.key = b"another key"
        client.execute("print 1")
        client.session.key = b"secret"
        msg_id = client.execute("print 2")
        assert text_of(collect(client, msg_id)) == lines(2)
        executed = [kind for kind, _ in gateway.kernel.requests if kind == "execute_request"]
        assert len(executed) == 1


def test_two_front_ends_share_the_output_and_get_only_their_own_replies(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with (
        running_bridge(tmp_path) as bridge,
        connected_client(bridge) as first,
        connected_client(bridge) as second,
    ):
        msg_id = first.execute("print 3")
        assert text_of(collect(second, msg_id)) == lines(3)
        assert reply_to(first, msg_id)
        own = second.execute("print 1")
        assert reply_to(second, own)


def test_the_heartbeat_is_echoed_while_the_kernel_is_busy(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        client.execute("block")
        ping = client.context.socket(zmq.REQ)
        ping.linger = 0
        ping.connect(f"tcp://127.0.0.1:{client.hb_port}")
        ping.send(b"ping")
        assert ping.poll(5000)
        assert ping.recv() == b"ping"
        ping.close()


def test_output_of_a_cut_connection_comes_once_and_in_order_after_it(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        kernel = gateway.kernel
        busy = client.execute("block")
        wait_until(lambda: ("execute_request", busy) in kernel.requests, 5)
        gateway.cut(refuse=True)
        offline = client.execute("print 500")
        gateway.call(lambda: _print(kernel, range(200)))
        gateway.heal()
        wait_until(lambda: ("execute_request", offline) in kernel.requests, 15)
        gateway.cut(refuse=False)
        gateway.call(lambda: _print(kernel, range(200, 300)))
        gateway.call(kernel._interrupt)
        seen = _streams_until_idle(client, busy)
        assert seen == lines(200) + lines(500) + "".join(f"#{n}\n" for n in range(200, 300))
        assert [m for kind, m in kernel.requests if m in (busy, offline)] == [busy, offline]


def _print(kernel: ScriptedKernel, numbers: range) -> None:
    for number in numbers:
        kernel.emit("iopub", "stream", {"name": "stdout", "text": f"#{number}\n"})


def _streams_until_idle(client: Any, msg_id: str) -> str:
    text = []
    while True:
        message = client.get_iopub_msg(timeout=15)
        if message["msg_type"] == "stream":
            text.append(message["content"]["text"])
        is_idle = message["content"].get("execution_state") == "idle"
        if is_idle and message["parent_header"].get("msg_id") == msg_id:
            return "".join(text)


def test_kernel_info_of_a_busy_kernel_is_answered_from_what_is_known(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        gateway.kernel.holds_info = True
        client.execute("block")
        wait_until(
            lambda: (
                client.get_iopub_msg(timeout=15)["parent_header"]["msg_type"] == "execute_request"
            ),
            5,
        )
        msg_id = client.kernel_info()
        reply = reply_to(client, msg_id)
        assert reply["content"]["implementation"] == "scripted"
        states = [client.get_iopub_msg(timeout=15) for _ in range(3)]
        assert [m["content"]["execution_state"] for m in states] == ["busy", "idle", "busy"]
        assert states[-1]["parent_header"]["msg_type"] == "execute_request"


def test_a_subscriber_of_a_starting_kernel_is_welcomed_and_told_that_it_starts(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    gateway.refuses_links = True
    with running_bridge(tmp_path) as bridge:
        wait_until(lambda: bridge.state, 10)
        with _unready_client(bridge) as client:
            messages = [client.get_iopub_msg(timeout=15) for _ in range(2)]
            assert [m["msg_type"] for m in messages] == ["iopub_welcome", "status"]
            assert messages[1]["content"] == {"execution_state": "starting"}
            asked = {client.kernel_info() for _ in range(3)}
            gateway.heal()
            answered = {client.get_shell_msg(timeout=10)["parent_header"]["msg_id"] for _ in asked}
            assert answered == asked


def _unready_client(bridge: Any) -> Any:
    return connected_client(bridge, is_ready=False)


def test_encrypted_sockets_are_served_where_the_connection_file_has_curve_keys(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    public, secret = zmq.curve_keypair()
    path = tmp_path / "kernel-test.json"
    write_connection_file(
        str(path), ip="127.0.0.1", key=b"secret", curve_publickey=public, curve_secretkey=secret
    )
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("print 3")
        assert text_of(collect(client, msg_id)) == lines(3)


def test_unix_sockets_are_served_where_the_connection_file_says_ipc(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    path = tmp_path / "kernel-test.json"
    write_connection_file(
        str(path),
        ip=str(tmp_path / "s"),
        key=b"secret",
        transport="ipc",
        shell_port=1,
        iopub_port=2,
        stdin_port=3,
        control_port=4,
        hb_port=5,
    )
    with running_bridge(tmp_path) as bridge, connected_client(bridge) as client:
        msg_id = client.execute("print 3")
        assert text_of(collect(client, msg_id)) == lines(3)
