"""A kernel behind a stock server: every request gets its end, whatever the server forgets."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from clouditia.protocol.messages import Buffer, Message, decode_json, encode_json
from clouditia.protocol.stock_kernel import Action, Call, Deliver, Send, StartOver, StockKernel


class World:
    """The machine, and both of its neighbours as lists."""

    def __init__(self) -> None:
        self.count = 0
        self.kernel = StockKernel(self.compose, "'lab'")
        self.sent: list[Message] = []
        self.shown: list[Message] = []
        self.calls: list[Call] = []
        self.starts_over = 0

    def compose(
        self, channel: str, msg_type: str, content: Mapping[str, Any], parent: Buffer
    ) -> Message:
        self.count += 1
        header = {"msg_id": f"ours{self.count}", "msg_type": msg_type, "session": "bridge"}
        return Message(channel, encode_json(header), parent, b"{}", encode_json(dict(content)))

    def act(self) -> None:
        for action in self.kernel.actions():
            self.do(action)

    def do(self, action: Action) -> None:
        if isinstance(action, Send):
            self.sent.append(action.message)
        elif isinstance(action, Deliver):
            self.shown.append(action.message)
        elif isinstance(action, Call):
            self.calls.append(action)
        else:
            assert isinstance(action, StartOver)
            self.starts_over += 1

    def connect(self) -> None:
        self.kernel.connection_made()
        self.act()

    def cut(self) -> None:
        self.kernel.connection_lost()
        self.act()

    def ask(
        self,
        msg_id: str,
        msg_type: str = "execute_request",
        *,
        channel: str = "shell",
        subshell: str | None = None,
        **content: Any,
    ) -> Message:
        header = {"msg_id": msg_id, "msg_type": msg_type, "session": "front"}
        if subshell is not None:
            header["subshell_id"] = subshell
        message = Message(channel, encode_json(header), b"{}", b"{}", encode_json(content))
        self.kernel.submit(message)
        self.act()
        return message

    def hear(
        self,
        channel: str,
        msg_type: str,
        parent: Buffer = b"{}",
        *,
        session: str = "process1",
        **content: Any,
    ) -> None:
        header = {"msg_id": f"k{self.count}", "msg_type": msg_type, "session": session}
        self.kernel.receive(
            Message(channel, encode_json(header), parent, b"{}", encode_json(content))
        )
        self.act()

    def status(self, state: str, parent: Buffer = b"{}", *, session: str = "process1") -> None:
        self.hear("iopub", "status", parent, session=session, execution_state=state)

    def answer(self, request: Message, *, session: str = "process1") -> None:
        """The kernel carries a request out."""
        msg_type = str(decode_json(request.header)["msg_type"]).replace("_request", "_reply")
        self.status("busy", request.header, session=session)
        self.hear(request.channel, msg_type, request.header, session=session, status="ok")
        self.status("idle", request.header, session=session)

    def probes(self) -> list[Message]:
        return [each for each in self.sent if kind(each) == "kernel_info_request"]

    def said_to(self, msg_id: str) -> list[str]:
        """What was shown for one request, in short."""
        return [
            short(each)
            for each in self.shown
            if decode_json(each.parent_header).get("msg_id") == msg_id
        ]

    def notices(self) -> list[str]:
        return [short(each) for each in self.shown if each.channel == "clouditia"]


def kind(message: Message) -> str:
    return str(decode_json(message.header)["msg_type"])


def short(message: Message) -> str:
    content = decode_json(message.content)
    word = content.get("execution_state") or content.get("ename") or content.get("status") or ""
    return f"{kind(message)} {word}".strip()


FAILED_CUT = [
    "stream",
    "error UnknownOutcomeError",
    "execute_reply UnknownOutcomeError",
    "status idle",
]


@pytest.fixture
def world() -> World:
    world = World()
    world.connect()
    return world


def test_messages_pass_both_ways_untouched(world: World) -> None:
    request = world.ask("a", code="1")
    assert world.sent == [request]
    world.answer(request)
    world.hear("stdin", "input_request", request.header, prompt="?")
    assert world.said_to("a") == [
        "status busy",
        "execute_reply ok",
        "status idle",
        "input_request",
    ]
    assert world.kernel.open_requests == 0


@pytest.mark.parametrize("order", ["reply first", "idle first"])
def test_a_request_is_open_until_reply_and_idle_were_seen(world: World, order: str) -> None:
    request = world.ask("a")
    steps = [
        lambda: world.hear("shell", "execute_reply", request.header, status="ok"),
        lambda: world.status("idle", request.header),
    ]
    if order == "idle first":
        steps.reverse()
    steps[0]()
    assert world.kernel.open_requests == 1
    steps[1]()
    assert world.kernel.open_requests == 0


def test_a_one_way_message_is_not_waited_for(world: World) -> None:
    world.ask("c", "comm_msg")
    world.ask("i", "input_reply", channel="stdin")
    assert world.kernel.open_requests == 0


def test_a_first_connection_asks_nothing(world: World) -> None:
    assert (world.sent, world.shown) == ([], [])
    world.cut()
    world.connect()
    assert (world.sent, world.shown) == ([], [])  # nor does a later one, where nothing is open


def test_nothing_is_accepted_without_a_connection() -> None:
    world = World()
    seen = [world.kernel.accepts]
    for step in (world.connect, world.cut):
        step()
        seen.append(world.kernel.accepts)
    assert seen == [False, True, False]


def test_a_reply_lost_in_a_cut_is_said_to_be_lost_once_the_kernel_answers_behind_it(
    world: World,
) -> None:
    request = world.ask("a")
    world.status("busy", request.header)
    world.cut()
    world.connect()
    (probe,) = world.probes()
    assert world.said_to("a") == ["status busy", "stream"]
    world.status("busy", probe.header)
    world.hear("shell", "kernel_info_reply", probe.header, status="ok")
    assert world.kernel.open_requests == 1  # its idle may still bring output
    world.status("idle", probe.header)
    assert world.said_to("a") == ["status busy", *FAILED_CUT]
    assert world.kernel.open_requests == 0
    ours = decode_json(probe.header)["msg_id"]
    assert world.said_to(ours) == []  # the front end knows nothing of the question


def test_a_request_answered_late_is_not_lost(world: World) -> None:
    request = world.ask("a")
    world.cut()
    world.connect()
    (probe,) = world.probes()
    world.answer(request)
    world.answer(probe)
    assert world.said_to("a") == ["stream", "status busy", "execute_reply ok", "status idle"]


def test_what_is_asked_after_the_question_is_not_lost_by_it(world: World) -> None:
    world.ask("a")
    world.cut()
    world.connect()
    (probe,) = world.probes()
    world.ask("b")
    world.answer(probe)
    assert world.said_to("a") == FAILED_CUT
    assert world.said_to("b") == []


def test_only_the_missing_part_of_an_answer_is_given(world: World) -> None:
    replied = world.ask("a", "complete_request")
    idle = world.ask("b", "complete_request")
    world.hear("shell", "complete_reply", replied.header, status="ok")
    world.status("idle", idle.header)
    world.cut()
    world.connect()
    (probe,) = world.probes()
    world.answer(probe)
    assert world.said_to("a") == ["complete_reply ok", "status idle"]
    assert world.said_to("b") == ["status idle", "complete_reply UnknownOutcomeError"]


def test_each_lane_is_asked_for_itself(world: World) -> None:
    world.ask("a")
    world.ask("d", "debug_request", channel="control")
    world.ask("s", subshell="sub")
    world.cut()
    world.connect()
    lanes = {
        (probe.channel, decode_json(probe.header).get("subshell_id")): probe
        for probe in world.probes()
    }
    assert set(lanes) == {("shell", None), ("control", None), ("shell", "sub")}
    world.answer(lanes["shell", "sub"])
    assert world.kernel.open_requests == 2
    assert world.said_to("s") == FAILED_CUT[1:]  # the notice went to the cell that runs longest


def test_a_second_cut_asks_again(world: World) -> None:
    world.ask("a")
    world.cut()
    world.connect()
    world.cut()
    world.connect()
    first, second = world.probes()
    world.answer(first)  # cannot be; but would it come, it is an answer to nobody
    assert world.kernel.open_requests == 1
    world.answer(second)
    assert world.kernel.open_requests == 0


def test_a_shutdown_becomes_a_call_and_ends_the_kernel(world: World) -> None:
    world.ask("a")
    world.ask("bye", "shutdown_request", channel="control", restart=False)
    assert [call.verb for call in world.calls] == ["shutdown"]
    assert len(world.sent) == 1  # the server would take it for a crash
    world.kernel.call_done(world.calls[0].number)
    world.act()
    assert world.said_to("bye") == ["status busy", "shutdown_reply ok", "status idle"]
    assert world.said_to("a")[-2:] == ["execute_reply KernelEnded", "status idle"]
    assert world.notices() == ["kernel_ended"]


def test_a_restart_becomes_a_call_a_new_epoch_and_a_new_connection(world: World) -> None:
    world.status("busy", world.ask("a").header)
    world.ask("again", "shutdown_request", channel="control", restart=True)
    assert not world.kernel.accepts  # what comes meanwhile is for the next process
    world.status("restarting")  # is what was asked for
    assert world.kernel.epoch == 1
    world.kernel.call_done(world.calls[0].number)
    world.act()
    assert world.kernel.epoch == 2
    assert world.starts_over == 1
    assert not world.kernel.accepts
    assert world.said_to("a") == ["status busy", "execute_reply KernelRestarted", "status idle"]
    assert world.said_to("again") == ["status busy", "shutdown_reply ok", "status idle"]
    assert world.notices() == ["kernel_state restarting", "kernel_state starting"]
    world.cut()
    world.connect()
    (ready,) = world.probes()
    accepted = [world.kernel.accepts]
    world.answer(ready, session="process2")
    assert [*accepted, world.kernel.accepts] == [False, True]
    world.answer(world.ask("b"), session="process2")  # expected, so no news
    assert world.said_to("b") == ["status busy", "execute_reply ok", "status idle"]
    assert world.kernel.epoch == 2


def test_a_new_process_is_asked_again_until_reply_and_idle_were_heard(world: World) -> None:
    world.status("restarting")
    settling = [world.kernel.is_settling]  # not before there is a connection
    world.cut()
    world.connect()
    first = world.probes()[-1]
    world.hear("shell", "kernel_info_reply", first.header, session="process2")  # its idle is lost
    settling.append(world.kernel.is_settling)
    world.kernel.ask_again()
    world.act()
    world.answer(world.probes()[-1], session="process2")
    assert [*settling, world.kernel.is_settling] == [False, True, False]
    assert world.kernel.accepts
    # The first question is still without its idle; that must not keep others from being settled.
    world.ask("a")
    world.kernel.ask_again()
    world.act()
    world.answer(world.probes()[-1], session="process2")
    assert world.kernel.open_requests == 0


def test_an_idle_that_the_server_missed_is_found_missing_by_asking_again(world: World) -> None:
    request = world.ask("a")
    world.status("busy", request.header)
    world.hear("shell", "execute_reply", request.header, status="ok")
    world.kernel.ask_again()
    world.act()
    world.answer(world.probes()[-1])
    assert world.said_to("a") == ["status busy", "execute_reply ok", "status idle"]
    assert world.kernel.open_requests == 0


def test_asking_again_keeps_the_cause(world: World) -> None:
    world.answer(world.ask("old"))
    world.ask("a")
    world.status("starting", session="process2")
    world.kernel.ask_again()
    world.act()
    world.answer(world.probes()[-1], session="process2")
    assert "execute_reply KernelDied" in world.said_to("a")


def test_an_interrupt_becomes_a_call_and_is_answered(world: World) -> None:
    world.ask("stop", "interrupt_request", channel="control")
    assert [call.verb for call in world.calls] == ["interrupt"]
    assert world.sent == []
    assert world.kernel.accepts
    world.kernel.call_done(world.calls[0].number)
    world.act()
    assert world.said_to("stop") == ["status busy", "interrupt_reply ok", "status idle"]


def test_a_call_that_failed_is_answered_with_the_error(world: World) -> None:
    world.ask("again", "shutdown_request", channel="control", restart=True)
    error = {"code": "gateway_unreachable", "message": "no answer"}
    world.kernel.call_done(world.calls[0].number, error)
    world.act()
    assert world.said_to("again") == ["shutdown_reply gateway_unreachable", "status idle"]
    assert (world.kernel.epoch, world.starts_over) == (1, 0)
    assert world.kernel.accepts


@pytest.mark.parametrize(("verb", "calls"), [("interrupt", 1), ("restart", 1), ("shutdown", 0)])
def test_commands_of_the_bridge_are_calls_too(world: World, verb: str, calls: int) -> None:
    world.ask("x", "command", channel="clouditia", id="7", command=verb)
    assert [call.verb for call in world.calls] == [verb] * calls
    assert world.sent == []
    for call in world.calls:
        world.kernel.call_done(call.number)
    world.act()
    replies = [each for each in world.shown if kind(each) == "command_reply"]
    assert [decode_json(each.content)["id"] for each in replies] == ["7"] * calls


def test_a_crash_answers_what_was_asked_and_is_told_in_the_next_cell(world: World) -> None:
    world.status("busy", world.ask("a").header)
    world.status("restarting")
    assert world.said_to("a") == [
        "status busy",
        "error KernelDied",
        "execute_reply KernelDied",
        "status idle",
    ]
    assert world.kernel.epoch == 2
    assert world.notices() == ["kernel_state restarting"]
    assert world.starts_over == 1
    world.cut()
    world.connect()
    world.answer(world.ask("i", "complete_request"), session="process2")
    world.answer(world.ask("b"), session="process2")
    world.answer(world.ask("c"), session="process2")
    assert world.said_to("b") == ["stream", "status busy", "execute_reply ok", "status idle"]
    assert world.said_to("c") == ["status busy", "execute_reply ok", "status idle"]
    assert world.kernel.epoch == 2


def test_a_kernel_that_the_server_gives_up_is_reported_as_dead(world: World) -> None:
    world.ask("a")
    world.status("dead")
    assert "execute_reply KernelDied" in world.said_to("a")
    assert world.notices() == ["kernel_exited"]


def test_a_kernel_that_the_server_has_no_longer_is_reported_as_ended(world: World) -> None:
    world.ask("a")
    world.kernel.gone("deleted")
    world.act()
    assert "execute_reply KernelEnded" in world.said_to("a")
    assert world.notices() == ["kernel_ended"]


def test_a_restart_by_somebody_else_is_noticed_by_the_session_of_the_kernel(world: World) -> None:
    world.answer(world.ask("old"))
    world.ask("a")
    new = world.ask("b")
    world.status("busy", new.header, session="process2")
    assert world.kernel.epoch == 2
    (probe,) = world.probes()
    world.hear("shell", "execute_reply", new.header, session="process2", status="ok")
    world.status("idle", new.header, session="process2")
    world.answer(probe, session="process2")
    assert world.said_to("a") == ["error KernelDied", "execute_reply KernelDied", "status idle"]
    assert world.said_to("b") == ["stream", "status busy", "execute_reply ok", "status idle"]
    world.ask("c")
    assert world.said_to("c") == []


def test_a_restart_noticed_between_cells_is_told_in_the_next(world: World) -> None:
    world.answer(world.ask("a"))
    world.status("starting", session="process2")
    world.answer(world.ask("b"), session="process2")
    assert world.said_to("b") == ["stream", "status busy", "execute_reply ok", "status idle"]


def test_a_death_without_a_witness_is_noticed_after_the_reconnect(world: World) -> None:
    world.status("busy", world.ask("a").header)
    world.cut()
    world.connect()
    (probe,) = world.probes()
    world.answer(probe, session="process2")
    assert world.said_to("a")[2:] == [
        "error KernelDied",
        "execute_reply KernelDied",
        "status idle",
    ]
    assert world.kernel.epoch == 2


@pytest.mark.parametrize("session", ["front", ""])
def test_kernels_that_repeat_the_clients_session_say_nothing_about_their_process(
    world: World, session: str
) -> None:
    world.answer(world.ask("a"))
    world.answer(world.ask("b"), session=session)
    assert world.kernel.epoch == 1


def test_a_server_cannot_pretend_to_be_a_kernel_host(world: World) -> None:
    world.hear("clouditia", "kernel_ended", reason="haha")
    assert world.shown == []


def test_a_status_that_belongs_to_a_request_is_the_kernels_own(world: World) -> None:
    request = world.ask("a")
    world.status("restarting", request.header)
    assert world.said_to("a") == ["status restarting"]
    assert world.kernel.epoch == 1


def test_a_status_of_the_servers_own_words_is_not_shown_as_the_kernels(world: World) -> None:
    world.status("restarting")
    assert [short(each) for each in world.shown] == ["kernel_state restarting"]


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_every_request_ends_exactly_once(seed: int) -> None:
    """A server that loses what it likes around cuts, dies and restarts its kernel."""
    chance = random.Random(seed)
    world = World()
    asked: list[str] = []
    process = 1
    arrived: list[Message] = []

    def flow() -> None:
        while world.sent:
            arrived.append(world.sent.pop(0))

    def serve(loss: float) -> None:
        flow()
        while arrived:
            request = arrived.pop(0)
            if chance.random() >= loss and decode_json(request.header)["msg_type"] != "comm_msg":
                world.answer(request, session=f"process{process}")
                flow()

    world.connect()
    for number in range(30):
        event = chance.random()
        if event < 0.3 and world.kernel.is_settling:
            serve(loss=0.3)
        elif event < 0.5 and world.kernel.accepts:
            asked.append(f"r{number}")
            world.ask(asked[-1], subshell="s" if chance.random() < 0.2 else None)
        elif event < 0.6:
            serve(loss=0.0)
        elif event < 0.8:
            flow()
            lost = [each for each in arrived if chance.random() < 0.4]
            arrived[:] = [each for each in arrived if each not in lost]
            world.cut()
            world.connect()
        elif event < 0.9 and world.kernel.accepts:
            flow()
            arrived.clear()
            process += 1
            world.status("restarting")
            world.cut()
            world.connect()
        elif world.kernel.accepts:
            world.ask(f"x{number}", "shutdown_request", channel="control", restart=True)
            flow()
            arrived.clear()
            process += 1
            world.kernel.call_done(world.calls[-1].number)
            world.act()
            world.cut()
            world.connect()
        elif world.kernel.is_settling:
            world.kernel.ask_again()
            world.act()
    serve(loss=0.0)
    world.kernel.ask_again()
    world.act()
    serve(loss=0.0)
    assert world.kernel.open_requests == 0
    for msg_id in asked:
        said = world.said_to(msg_id)
        replies = [each for each in said if each.startswith("execute_reply")]
        assert len(replies) == 1, (msg_id, said)
        assert said.count("status idle") == 1, (msg_id, said)
