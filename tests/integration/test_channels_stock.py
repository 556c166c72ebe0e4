"""Stock Jupyter clients, v1 and legacy, on a kernel host that speaks the link."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from typing import Any

import pytest
from tests.integration.channels_harness import (
    ALICE,
    FakeHost,
    answer,
    bare_gateway,
    close_code,
    described,
    received,
    request,
    run,
    v1_bytes,
    wait_until_async,
)
from tests.integration.channels_harness import STOCK_SUBPROTOCOL as V1
from websockets.asyncio.client import ClientConnection

from clouditia.protocol.messages import Message, decode_legacy, decode_v1, encode_legacy
from clouditia_gateway.channels.stock_audience import Audiences

MIB = 1024 * 1024


def busy_reply_idle(host: FakeHost, message: Message) -> None:
    """A kernel that answers every request as ipykernel does."""
    host.append(answer(message, "iopub", "status", {"execution_state": "busy"}))
    host.append(answer(message, message.channel, "execute_reply", {"status": "ok"}))
    host.append(answer(message, "iopub", "status", {"execution_state": "idle"}))


def silent(host: FakeHost, message: Message) -> None:
    """A kernel that never answers by itself."""


BUSY_REPLY_IDLE = [
    ("iopub", "status", {"execution_state": "busy"}),
    ("shell", "execute_reply", {"status": "ok"}),
    ("iopub", "status", {"execution_state": "idle"}),
]


def line(number: int) -> Message:
    return answer(None, "iopub", "stream", {"name": "stdout", "text": f"{number}\n"})


def notice(msg_type: str, content: dict[str, Any]) -> Message:
    return answer(None, "clouditia", msg_type, content)


def test_a_v1_client_gets_reply_and_output_of_its_request() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            client = await gateway.client(V1, session_id="s")
            sent = v1_bytes(request("m1"))
            await client.send(sent)
            assert await received(client, 3) == BUSY_REPLY_IDLE
            assert v1_bytes(host.requests[0][1]) == sent

    run(test())


def test_v1_payloads_pass_byte_for_byte_with_their_buffers() -> None:
    async def test() -> None:
        buffers = (os.urandom(MIB), b"", os.urandom(3))

        def echo(host: FakeHost, message: Message) -> None:
            host.append(answer(message, "iopub", "comm_msg", {"data": 1}, message.buffers))

        async with bare_gateway() as gateway, FakeHost(gateway, echo) as host:
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m1", buffers=buffers)))
            frame = await client.recv()
            assert isinstance(frame, bytes)
            assert [bytes(part) for part in decode_v1(frame).buffers] == list(buffers)
            written = host.journal.read(1)
            assert isinstance(written, list)
            assert frame == b"".join(written)

    run(test())


def test_a_message_larger_than_any_frame_and_window_passes_both_ways() -> None:
    async def test() -> None:
        big = os.urandom(20 * MIB)

        def echo(host: FakeHost, message: Message) -> None:
            host.append(answer(message, "iopub", "display_data", {}, message.buffers))

        async with bare_gateway() as gateway, FakeHost(gateway, echo):
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m1", buffers=(big,))))
            frame = await client.recv()
            assert isinstance(frame, bytes)
            assert bytes(decode_v1(frame).buffers[0]) == big

    run(test())


def test_a_request_larger_than_tornados_own_limit_of_100_mb_arrives() -> None:
    async def test() -> None:
        size = 105 * MIB
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m1", buffers=(bytes(size),))))
            await wait_until_async(lambda: host.requests, 30)
            assert len(host.requests[0][1].buffers[0]) == size

    run(test())


def test_a_legacy_client_speaks_json_text_and_binary_with_buffers() -> None:
    async def test() -> None:
        buffers = (os.urandom(1000), b"x")

        def echo(host: FakeHost, message: Message) -> None:
            host.append(answer(message, "shell", "comm_reply", {"é": "ü"}, message.buffers))

        async with bare_gateway() as gateway, FakeHost(gateway, echo) as host:
            client = await gateway.client(session_id="s")
            await client.send(encode_legacy(request("m1")))
            text = await client.recv()
            assert isinstance(text, str)
            assert described(text) == ("shell", "comm_reply", {"é": "ü"})
            assert json.loads(text)["parent_header"]["msg_id"] == "m1"

            await client.send(encode_legacy(request("m2", buffers=buffers)))
            binary = await client.recv()
            assert isinstance(binary, bytes)
            assert [bytes(part) for part in decode_legacy(binary).buffers] == list(buffers)
            assert [bytes(part) for part in host.requests[1][1].buffers] == list(buffers)

    run(test())


def _forged() -> list[tuple[str, str, str | bytes]]:
    good = v1_bytes(request("m"))
    header_only = Message("shell", b'{"msg_id":7}', b"{}", b"{}", b"{}")
    return [
        ("v1", "too short", b"\x01"),
        ("v1", "2^33 offsets", struct.pack("<Q", 2**33)),
        ("v1", "2^24 offsets", struct.pack("<Q", 2**24) + bytes(64)),
        ("v1", "cut", good[:-1]),
        ("v1", "offsets that decrease", struct.pack("<7Q", 6, 56, 60, 58, 60, 60, 60) + b"1234"),
        ("v1", "an offset past the end", good[:8] + struct.pack("<Q", 2**63) + good[16:]),
        ("v1", "no JSON", v1_bytes(Message("shell", b"{nope", b"{}", b"{}", b"{}"))),
        ("v1", "content no JSON", v1_bytes(request("m")._replace(content=b"{1"))),
        ("v1", "deep JSON", v1_bytes(request("m")._replace(content=b"[" * 1_000_000))),
        ("v1", "no msg_id", v1_bytes(header_only)),
        ("v1", "iopub", v1_bytes(request("m", channel="iopub"))),
        ("v1", "commands", v1_bytes(request("m", channel="clouditia"))),
        ("v1", "unknown channel", good.replace(b"shell", b"shall", 1)),
        ("", "no JSON", "{nope"),
        ("", "no object", "[]"),
        ("", "no header", "{}"),
        ("", "forged count", struct.pack("!I", 2**31) + bytes(16)),
        ("", "offset past the end", struct.pack("!2I", 1, 9000) + b"{}"),
        ("", "commands", encode_legacy(request("m", channel="clouditia"))),
    ]


@pytest.mark.parametrize(
    ("form", "frame"), [pytest.param(f, frame, id=f"{f}-{name}") for f, name, frame in _forged()]
)
def test_forged_messages_are_refused_with_a_reason_and_nobody_else_is_hurt(
    form: str, frame: str | bytes
) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            other = await gateway.client(V1, session_id="other")
            client = await gateway.client(*([V1] if form else []), session_id="s")
            await client.send(frame)
            assert await close_code(client) == 1008
            assert client.close_reason
            assert host.requests == []
            await other.send(v1_bytes(request("m1", session="other")))
            assert await received(other, 3) == BUSY_REPLY_IDLE

    run(test())


def test_text_on_a_v1_socket_is_refused_with_1003() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent):
            client = await gateway.client(V1, session_id="s")
            await client.send(encode_legacy(request("m1")))
            assert await close_code(client) == 1003
            assert "binary" in (client.close_reason or "")

    run(test())


def test_output_goes_to_all_clients_and_replies_to_the_one_that_asked() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            first = await gateway.client(V1, session_id="first")
            second = await gateway.client(session_id="second")
            # A message session that is not the URL's session_id is learnt from the request.
            await first.send(v1_bytes(request("m1", session="kernel-client")))
            assert await received(first, 3) == BUSY_REPLY_IDLE
            assert await received(second, 2) == [BUSY_REPLY_IDLE[0], BUSY_REPLY_IDLE[2]]
            # Without a session, the msg_id tells.
            await second.send(encode_legacy(request("m2", session="")))
            assert await received(second, 3) == BUSY_REPLY_IDLE
            assert await received(first, 2) == [BUSY_REPLY_IDLE[0], BUSY_REPLY_IDLE[2]]
            # Input requests, too, concern one client only.
            asked = request("m1", session="kernel-client")
            host.append(answer(asked, "stdin", "input_request", {}))
            host.append(line(1))
            host.publish()
            assert [m[1] for m in await received(first, 2)] == ["input_request", "stream"]
            assert [m[1] for m in await received(second, 1)] == ["stream"]

    run(test())


def test_the_same_session_id_closes_the_older_socket_with_4001_and_goes_on_in_the_newer() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            older = await gateway.client(V1, session_id="s")
            host.append(line(1))
            host.publish()
            await received(older, 1)
            newer = await gateway.client(V1, session_id="s")
            assert await close_code(older) == 4001
            host.append(line(2))
            host.publish()
            assert [m[2]["text"] for m in await received(newer, 1)] == ["2\n"]

    run(test())


def test_another_users_same_session_id_is_another_session() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent):
            mine = await gateway.client(V1, session_id="s")
            admin_record = gateway.registry.record()
            gateway.registry.get_kernel = lambda *_: admin_record  # type: ignore[method-assign]
            await gateway.client(V1, session_id="s", key="ck_bob")
            await (await mine.ping())
            assert len(gateway.stock_sessions) == 2

    run(test())


async def _next_line(client: ClientConnection) -> str:
    return str((await received(client, 1))[0][2]["text"])


def test_output_of_an_outage_of_the_client_is_there_when_the_session_comes_back() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            client = await gateway.client(V1, session_id="s")
            host.append(line(1))
            host.publish()
            assert await _next_line(client) == "1\n"
            await wait_until_async(lambda: host.acked() == 1, 5)
            client.transport.abort()
            # The gateway keeps nothing: the session is forgotten here and remembered by the host.
            await wait_until_async(lambda: len(gateway.stock_sessions) == 0, 10)
            for number in range(2, 50):
                host.append(line(number))
            again = await gateway.client(V1, session_id="s")
            assert [await _next_line(again) for _ in range(48)] == [f"{n}\n" for n in range(2, 50)]
            await again.send(v1_bytes(request("m1")))
            await wait_until_async(lambda: len(host.requests) == 1, 5)

    run(test())


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same gateway", "restarted gateway"])
def test_a_reply_in_a_message_session_of_its_own_is_there_after_a_long_cut(
    is_restarted: bool,
) -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            client = await gateway.client(V1, session_id="url")
            await client.send(v1_bytes(request("m1", session="of-messages")))
            await wait_until_async(lambda: host.requests, 10)
            client.transport.abort()
            await wait_until_async(lambda: len(gateway.stock_sessions) == 0, 10)
            if is_restarted:
                gateway.stock_sessions._audiences = Audiences(time.monotonic)
            asked = request("m1", session="of-messages")
            host.append(answer(asked, "shell", "execute_reply", {"status": "ok"}))
            again = await gateway.client(V1, session_id="url")
            assert await received(again, 1) == [("shell", "execute_reply", {"status": "ok"})]

    run(test())


def test_a_lost_host_leg_is_only_a_pause_for_the_client() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m0")))
            assert await received(client, 3) == BUSY_REPLY_IDLE
            for round_number in range(3):
                await host.cut()
                await client.send(v1_bytes(request(f"m{round_number + 1}")))
                assert await received(client, 3) == BUSY_REPLY_IDLE
            asked = [json.loads(bytes(m.header))["msg_id"] for _, m in host.requests]
            assert asked == ["m0", "m1", "m2", "m3"]

    run(test())


def test_a_client_that_reads_slowly_holds_the_host_and_loses_nothing() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            client = await gateway.client(V1, session_id="s")
            host.append(line(0))
            host.publish()
            assert await _next_line(client) == "0\n"
            client.transport.pause_reading()
            for _ in range(60):
                host.append(answer(None, "iopub", "display_data", {}, (bytes(MIB),)))
            host.publish()
            (session,) = gateway.stock_sessions._sessions.values()
            await wait_until_async(lambda: session._written or session._outgoing, 10)
            held = sum(len(item.frame) for item in (*session._outgoing, *session._written))
            assert held <= 4 * MIB
            client.transport.resume_reading()
            assert len(await received(client, 60)) == 60
            await wait_until_async(lambda: host.acked() == 61, 5)

    run(test())


def test_a_message_counts_as_handled_only_when_the_client_has_it() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            client = await gateway.client(V1, session_id="s")
            client.transport.pause_reading()
            for _ in range(30):
                host.append(answer(None, "iopub", "display_data", {}, (bytes(MIB),)))
            host.publish()
            await wait_until_async(lambda: len(gateway.stock_sessions) == 1, 5)
            (session,) = gateway.stock_sessions._sessions.values()
            await wait_until_async(lambda: session._written or session._outgoing, 10)
            assert host.acked() == 0
            client.transport.abort()
            again = await gateway.client(V1, session_id="s")
            seen = 0
            async with asyncio.timeout(20):
                while seen < 30:
                    await again.recv()
                    seen += 1
            await wait_until_async(lambda: host.acked() == 30, 5)

    run(test())


def test_a_dead_kernel_is_told_once_as_stock_clients_know_it() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            clients = [await gateway.client(V1, session_id="a"), await gateway.client()]
            host.append(notice("kernel_exited", {"epoch": 1, "exit_code": 1, "expected": False}))
            host.append(notice("kernel_state", {"epoch": 1, "execution_state": "dead"}))
            host.append(notice("kernel_state", {"epoch": 1, "execution_state": "dead"}))
            host.append(notice("kernel_state", {"epoch": 2, "execution_state": "starting"}))
            host.append(notice("command_reply", {"id": "1", "ok": True}))
            host.append(line(1))
            host.publish()
            for client in clients:
                dead, output = await received(client, 2)
                assert dead == ("iopub", "status", {"execution_state": "dead"})
                assert output[1] == "stream"

    run(test())


def test_the_death_of_a_kernel_that_was_restarted_since_is_not_told() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent) as host:
            host.epoch = 2
            host.append(notice("kernel_state", {"epoch": 1, "execution_state": "dead"}))
            host.append(line(1))
            client = await gateway.client(V1, session_id="s")
            assert await _next_line(client) == "1\n"

    run(test())


def test_a_client_that_comes_to_a_dead_kernel_is_told_after_its_first_answer() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            host.execution_state = "dead"
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m1")))
            got = await received(client, 4)
            assert got[1][1] == "execute_reply"
            assert got[2] == ("iopub", "status", {"execution_state": "dead"})

    run(test())


def test_a_host_that_never_comes_closes_the_client_with_4503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clouditia_gateway.channels.host_access.HOST_WAIT_S", 0.1)

    async def test() -> None:
        async with bare_gateway() as gateway:
            client = await gateway.client(V1, session_id="s")
            assert await close_code(client) == 4503

    run(test())


def test_a_kernel_that_has_ended_closes_its_clients_with_4404() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            client = await gateway.client(V1, session_id="s")
            await client.send(v1_bytes(request("m1")))
            await received(client, 3)
            gateway.registry.is_ended = True
            await host.cut()
            assert await close_code(client) == 4404

    run(test())


def test_a_revoked_key_closes_stock_clients_too() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent):
            clients = [await gateway.client(V1, session_id="a"), await gateway.client()]
            await wait_until_async(lambda: len(gateway.live) == 2, 5)
            gateway.live.close_key(ALICE.key_id, "the key was revoked")
            for client in clients:
                assert await close_code(client) == 4401
            assert len(gateway.live) == 0

    run(test())


def test_a_gateway_that_stops_says_so_to_its_clients() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, silent):
            client = await gateway.client(V1, session_id="s")
            gateway.hub.close_all()
            assert await close_code(client) == 1001
            assert len(gateway.stock_sessions) == 0

    run(test())


def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with bare_gateway() as gateway, FakeHost(gateway, busy_reply_idle) as host:
            for number in range(5):
                client = await gateway.client(V1, session_id=f"s{number}")
                await client.send(v1_bytes(request("m1", session=f"s{number}")))
                await received(client, 3)
                await client.close()
            await wait_until_async(lambda: len(gateway.stock_sessions) == 0, 10)
            for data in host.data:
                await close_code(data)
            assert gateway.hub._data == {}
            assert len(gateway.live) == 0

    run(test())
