"""Where each message goes, without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from clouditia.bridge.composing import Composer
from clouditia.bridge.kernel import KernelChannels, Request
from clouditia.bridge.routing import Route
from clouditia.errors import PackageTooLarge
from clouditia.protocol.messages import Buffer, Message, Signer, decode_json, decode_v1, encode_v1


class World:
    """Both sides of the channels."""

    def __init__(self) -> None:
        self.signer = Signer(b"key")
        self.composer = Composer()
        self.local: list[tuple[str, list[bytes], Message]] = []
        self.remote: list[Message] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self.replays: list[Request] = []
        self.refusal: PackageTooLarge | None = None
        self.channels = KernelChannels(
            self.signer,
            self.composer,
            send_local=self._send_local,
            send_remote=self._send_remote,
            wishes=self,
            on_notice=lambda kind, content: self.notices.append((kind, content)),
            on_replay_request=self.replays.append,
        )
        self.channels.kernel_id = "K"
        self.channels.is_online = True

    def shutdown_requested(self, request: Request) -> bool:
        return True

    def shutdown_replied(self, msg_id: str) -> None:
        """Nothing to do."""

    def _send_local(self, channel: str, parts: list[Buffer]) -> None:
        identities, message = self.signer.decode(channel, parts)
        self.local.append((channel, identities, message))

    def _send_remote(self, parts: list[Buffer]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.remote.append(decode_v1(b"".join(parts)))

    def ask(
        self, msg_type: str, *, channel: str = "shell", identity: bytes = b"me", buffers: Any = ()
    ) -> Message:
        message = self.composer.message(channel, msg_type, {})._replace(buffers=buffers)
        self.channels.from_front_end(channel, [self.signer.encode(message, [identity])])
        return message

    def answer(
        self, channel: str, msg_type: str, request: Message, content: dict[str, Any] | None = None
    ) -> None:
        message = self.composer.message(channel, msg_type, content or {}, parent=request.header)
        self.channels.from_kernel(b"".join(encode_v1(message)))

    def kinds(self) -> list[tuple[str, str]]:
        """Channel and type of what the front end got; statuses with their state."""
        out = []
        for channel, _, message in self.local:
            kind = str(decode_json(message.header)["msg_type"])
            state = decode_json(message.content).get("execution_state")
            out.append((channel, str(state or kind)))
        return out


@pytest.fixture
def world() -> World:
    return World()


def test_requests_are_forwarded_byte_for_byte(world: World) -> None:
    sent = world.ask("execute_request", buffers=(b"\x00\xff",))
    (forwarded,) = world.remote
    assert [bytes(part) for part in forwarded[1:5]] == [bytes(part) for part in sent[1:5]]
    assert [bytes(part) for part in forwarded.buffers] == [b"\x00\xff"]


def test_a_wrong_signature_is_dropped(world: World) -> None:
    parts = Signer(b"other").encode(world.composer.message("shell", "execute_request", {}))
    world.channels.from_front_end("shell", [parts])
    assert world.remote == []


@pytest.mark.parametrize("parts", [[], [b"x"], [b"<IDS|MSG>"], [b"a"] * 20])
def test_what_is_no_message_is_dropped(world: World, parts: list[Buffer]) -> None:
    world.channels.from_front_end("shell", [parts])
    assert world.remote == []


def test_a_reply_goes_to_the_identity_that_asked_once(world: World) -> None:
    request = world.ask("execute_request", identity=b"first")
    world.ask("execute_request", identity=b"second")
    world.answer("shell", "execute_reply", request)
    world.answer("shell", "execute_reply", request)
    ((channel, identities, _),) = world.local
    assert (channel, identities) == ("shell", [b"first"])


def test_a_question_for_input_goes_to_the_front_end_that_executes(world: World) -> None:
    request = world.ask("execute_request", identity=b"first")
    world.ask("execute_request", identity=b"second")
    world.answer("stdin", "input_request", request)
    ((channel, identities, _),) = world.local
    assert (channel, identities) == ("stdin", [b"first"])


def test_a_flood_of_comm_messages_does_not_displace_a_waiting_request(world: World) -> None:
    request = world.ask("execute_request")
    for _ in range(2000):
        world.ask("comm_msg")
    world.answer("shell", "execute_reply", request)
    assert world.kinds() == [("shell", "execute_reply")]


def test_iopub_has_the_topic_of_kernel_and_type_and_no_upstream_welcome(world: World) -> None:
    request = world.ask("execute_request")
    world.answer("iopub", "iopub_welcome", request)
    world.answer("iopub", "stream", request)
    ((_, identities, _),) = world.local
    assert identities == [b"kernel.K.stream"]


def test_notices_of_the_host_do_not_reach_the_front_end(world: World) -> None:
    world.answer("clouditia", "kernel_ended", world.ask("x"), {"reason": "r"})
    assert world.notices == [("kernel_ended", {"reason": "r"})]
    assert world.local == []


def test_kernel_info_is_answered_from_memory_only_when_the_kernel_cannot(world: World) -> None:
    world.answer("shell", "kernel_info_reply", world.ask("kernel_info_request"), {"status": "ok"})
    world.ask("kernel_info_request")
    assert len(world.remote) == 2
    world.channels.is_online = False
    world.local.clear()
    world.ask("kernel_info_request")
    assert len(world.remote) == 2
    assert world.kinds() == [("iopub", "busy"), ("shell", "kernel_info_reply"), ("iopub", "idle")]


def test_an_error_in_place_of_kernel_info_is_kept_from_clients_that_would_fail_on_it(
    world: World,
) -> None:
    asked = world.ask("kernel_info_request")
    world.answer("shell", "kernel_info_reply", asked, {"status": "error", "ename": "KernelDied"})
    assert ("shell", "kernel_info_reply") not in world.kinds()
    assert world.channels.open_requests == 0


def test_another_epoch_forgets_the_kernel_info(world: World) -> None:
    world.answer("shell", "kernel_info_reply", world.ask("kernel_info_request"), {"status": "ok"})
    world.channels.epoch_changed()
    world.channels.is_online = False
    world.ask("kernel_info_request")
    assert len(world.remote) == 2


def test_the_probe_of_a_busy_kernel_fills_the_memory_and_stays_unseen(world: World) -> None:
    world.channels.found_busy()
    (probe,) = world.remote
    assert probe.channel == "control"
    world.answer("iopub", "status", probe, {"execution_state": "busy"})
    world.answer("control", "kernel_info_reply", probe, {"status": "ok"})
    assert world.local == []
    world.ask("kernel_info_request")
    assert ("shell", "kernel_info_reply") in world.kinds()
    assert world.kinds()[-1] == ("iopub", "busy")


def test_a_front_end_that_asked_before_the_kernel_was_found_busy_gets_the_answer_to_the_probe(
    world: World,
) -> None:
    """A Jupyter server opens no page before: for want of it a busy kernel looked unreachable."""
    world.channels.is_online = False
    early = world.ask("kernel_info_request")
    world.channels.is_online = True
    world.channels.found_busy()
    world.answer("control", "kernel_info_reply", world.remote[-1], {"status": "ok"})
    assert world.kinds() == [
        ("iopub", "busy"),
        ("shell", "kernel_info_reply"),
        ("iopub", "idle"),
        ("iopub", "busy"),
    ]
    world.answer("shell", "kernel_info_reply", early, {"status": "ok"})
    assert len(world.local) == 4  # once is enough


def test_a_request_that_cannot_be_sent_is_answered_with_the_error(world: World) -> None:
    world.refusal = PackageTooLarge("a message has at most 5 bytes, this one has 6.")
    world.ask("execute_request")
    assert world.kinds() == [
        ("iopub", "busy"),
        ("iopub", "error"),
        ("shell", "execute_reply"),
        ("iopub", "idle"),
    ]
    reply = decode_json(world.local[2][2].content)
    assert reply["status"] == "error"
    assert "at most 5 bytes" in reply["evalue"]
    assert world.channels.open_requests == 0


def test_too_many_buffers_are_refused_before_the_host_would(world: World) -> None:
    world.ask("comm_info_request", buffers=(b"",) * 4097)
    assert world.remote == []
    assert ("shell", "comm_info_reply") in world.kinds()


def test_starting_is_published_only_until_the_kernel_has_spoken(world: World) -> None:
    world.channels.subscribed(b"")
    assert world.kinds() == [("iopub", "iopub_welcome"), ("iopub", "starting")]
    world.answer("iopub", "stream", world.ask("x"))
    world.local.clear()
    world.channels.subscribed(b"kernel")
    ((_, identities, welcome),) = world.local
    assert identities == [b"kernel"]
    assert decode_json(welcome.content) == {"subscription": "kernel"}


def test_lost_messages_are_told_in_the_output_of_the_running_request(world: World) -> None:
    request = world.ask("execute_request")
    world.answer("iopub", "status", request, {"execution_state": "busy"})
    world.channels.messages_lost(7, 900, "retention")
    marker = world.local[-1][2]
    assert bytes(marker.parent_header) == bytes(request.header)
    assert "7 messages (900 bytes)" in decode_json(marker.content)["text"]


@pytest.mark.parametrize("frame", [b"", b"\x00" * 8, b"\xff" * 64])
def test_a_malformed_frame_of_the_link_is_dropped(world: World, frame: bytes) -> None:
    world.channels.from_kernel(frame)
    assert world.local == []


def test_the_cell_that_waits_longest_is_told_and_an_answered_one_is_not(world: World) -> None:
    assert not world.channels.tell_waiting("nobody is there")
    first, second = world.ask("execute_request"), world.ask("execute_request")
    for told in (first, second):
        world.local.clear()
        assert world.channels.tell_waiting("the network is away")
        ((channel, _, message),) = world.local
        assert channel == "iopub"
        assert message.parent_header == told.header
        assert decode_json(message.content) == {
            "name": "stderr",
            "text": "[clouditia] the network is away\n",
        }
        world.answer("shell", "execute_reply", told, {"status": "ok"})
    assert not world.channels.tell_waiting("all is done")


def test_a_refused_cell_does_not_wait(world: World) -> None:
    world.refusal = PackageTooLarge("too large")
    world.ask("execute_request")
    assert not world.channels.tell_waiting("the network is away")


def _link_message(world: World, request: Message, text: str) -> bytes:
    content = {"name": "stdout", "text": text}
    message = world.composer.message("iopub", "stream", content, request.header)
    return b"".join(bytes(part) for part in encode_v1(message))


def test_while_a_request_is_replayed_the_link_is_silent_about_it_and_only_about_it(
    world: World,
) -> None:
    cell, other = world.ask("execute_request"), world.ask("execute_request")
    msg_id = decode_json(cell.header)["msg_id"]
    world.channels.begin_replay(msg_id, Route("control", [b"page"]))
    assert world.channels.is_replayed(msg_id)
    world.channels.from_kernel(_link_message(world, cell, "late"), 7)
    world.channels.from_kernel(_link_message(world, other, "another's"), 8)
    assert [decode_json(message.content)["text"] for _, _, message in world.local] == ["another's"]
    world.channels.end_replay(msg_id, 9)
    assert not world.channels.is_replayed(msg_id)
    world.channels.from_kernel(_link_message(world, cell, "had by the replay"), 9)
    world.channels.from_kernel(_link_message(world, cell, "from a thread"), 10)
    assert decode_json(world.local[-1][2].content)["text"] == "from a thread"
    assert len(world.local) == 2


def test_a_replayed_message_has_another_signature_and_its_reply_goes_to_the_page(
    world: World,
) -> None:
    cell = world.ask("execute_request")
    world.channels.begin_replay(decode_json(cell.header)["msg_id"], Route("control", [b"page"]))
    stream = world.composer.message("iopub", "stream", {"name": "stdout", "text": "x"}, cell.header)
    for _ in range(2):
        world.channels.pass_replayed(stream)
    metadata = [decode_json(message.metadata)["clouditia"]["replay"] for *_, message in world.local]
    assert metadata == [1, 2]
    reply = world.composer.message("shell", "execute_reply", {"status": "ok"}, cell.header)
    world.channels.pass_replayed(reply)
    channel, identities, _ = world.local[-1]
    assert (channel, identities) == ("shell", [b"page"])


def test_a_wish_for_a_replay_is_not_the_kernels_business(world: World) -> None:
    world.ask("clouditia_replay_request", channel="control")
    assert len(world.replays) == 1
    assert world.remote == []


def test_an_answer_on_control_does_not_make_a_busy_kernel_look_idle(world: World) -> None:
    cell, question = world.ask("execute_request"), world.ask("debug_request", channel="control")
    world.answer("iopub", "status", cell, {"execution_state": "busy"})
    world.local.clear()
    world.answer("iopub", "status", question, {"execution_state": "idle"})
    assert world.kinds() == [("iopub", "idle"), ("iopub", "busy")]
    assert world.local[1][2].parent_header == cell.header
    world.answer("iopub", "status", cell, {"execution_state": "idle"})
    world.answer("iopub", "status", question, {"execution_state": "idle"})
    assert world.kinds()[2:] == [("iopub", "idle"), ("iopub", "idle")]


def test_what_the_bridge_says_itself_has_the_session_of_the_kernel(world: World) -> None:
    """JupyterLab drops what waits of one session when another session speaks."""

    def session_of_next() -> str:
        world.channels.publish(world.composer.status("busy"))
        return str(decode_json(world.local[-1][2].header)["session"])

    own = session_of_next()
    request = world.ask("execute_request")
    for session, channel, msg_type in [
        ("first", "iopub", "stream"),
        ("second", "shell", "execute_reply"),
        ("third", "iopub", "status"),
    ]:
        spoken = Composer()
        spoken.session = session
        message = spoken.message(channel, msg_type, {}, parent=request.header)
        world.channels.from_kernel(b"".join(encode_v1(message)))
        world.answer(
            "clouditia", "kernel_state", request
        )  # a host's notice is not the kernel's word
        assert session_of_next() == session != own
