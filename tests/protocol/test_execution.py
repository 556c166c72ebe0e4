"""One request's life: each state and edge, and outputs as nbformat and the front ends have them."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.errors import ExecutionError, GatewayUnreachable, KernelDied, MessagesLost
from clouditia.protocol.execution import (
    AlreadyRan,
    Cleared,
    Displayed,
    DisplayRegistry,
    DisplayUpdated,
    Execution,
    ExecutionEvent,
    ExecutionState,
    GapNoted,
    InputRequested,
    Lost,
    Printed,
    Replied,
    Started,
    StateChanged,
)
from clouditia.protocol.execution_outputs import OutputList
from clouditia.protocol.messages import Message, encode_json

SENT, BUSY, REPLIED, IDLE, DONE, LOST = ExecutionState
OK = {"status": "ok", "execution_count": 3}


def message(channel: str, msg_type: str, parent: str = "r", **content: Any) -> Message:
    header = encode_json({"msg_id": "m", "msg_type": msg_type})
    parent_header = encode_json({"msg_id": parent})
    return Message(channel, header, parent_header, b"{}", encode_json(content))


def status(state: str, parent: str = "r") -> Message:
    return message("iopub", "status", parent, execution_state=state)


def reply(parent: str = "r", **content: Any) -> Message:
    return message("shell", "execute_reply", parent, **(content or OK))


def stream(text: str, name: str = "stdout") -> Message:
    return message("iopub", "stream", name=name, text=text)


def display(
    text: str, display_id: str | None = None, kind: str = "display_data", parent: str = "r"
) -> Message:
    transient = {} if display_id is None else {"display_id": display_id}
    data = {"text/plain": text}
    return message("iopub", kind, parent, data=data, metadata={"m": text}, transient=transient)


def notice(msg_type: str, **content: Any) -> Message:
    return message("clouditia", msg_type, "", **content)


def shown(execution: Execution) -> list[str]:
    texts = []
    for output in execution.outputs:
        text = output["text"] if "text" in output else output["data"]["text/plain"]
        texts.append(f"{output['output_type']}:{text}")
    return texts


def feed(execution: Execution, *messages: Message) -> list[ExecutionEvent]:
    return [event for each in messages for event in execution.receive(each)]


def states(events: list[ExecutionEvent]) -> list[ExecutionState]:
    return [event.state for event in events if isinstance(event, StateChanged)]


# --- states -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([], []),
        ([status("busy")], [BUSY]),
        ([stream("x")], [BUSY]),
        ([status("busy"), reply()], [BUSY, REPLIED]),
        ([status("busy"), status("idle")], [BUSY, IDLE]),
        ([status("busy"), reply(), status("idle")], [BUSY, REPLIED, DONE]),
        ([status("busy"), status("idle"), reply()], [BUSY, IDLE, DONE]),
        ([reply()], [REPLIED]),
        ([reply(), status("busy"), stream("late"), status("idle")], [REPLIED, DONE]),
        ([reply(), reply(), status("idle")], [REPLIED, DONE]),
        ([status("idle"), status("idle"), reply()], [BUSY, IDLE, DONE]),
        ([status("starting"), reply()], [BUSY, REPLIED]),
        ([status("idle"), status("busy"), stream("late")], [BUSY, IDLE]),
        ([reply(), status("idle"), reply(), status("idle"), status("busy")], [REPLIED, DONE]),
    ],
)
def test_a_request_is_done_when_reply_and_idle_were_both_seen(
    messages: list[Message], path: list[ExecutionState]
) -> None:
    execution = Execution("r")
    assert execution.state is SENT
    assert states(feed(execution, *messages)) == path
    assert execution.state is [SENT, *path][-1]
    assert execution.has_ended is (execution.state is DONE)


def test_the_first_reply_counts() -> None:
    execution = Execution("r")
    feed(execution, reply())
    assert feed(execution, reply(status="error")) == []
    assert execution.reply == OK


@pytest.mark.parametrize("before", [[], [status("busy")], [reply()], [status("idle")]])
def test_the_death_of_the_kernel_ends_a_request_in_any_state(before: list[Message]) -> None:
    execution = Execution("r")
    feed(execution, *before)
    died = notice("kernel_exited", epoch=1, exit_code=-9, reason="killed", last_stderr="a\nboom\n")
    lost, changed = execution.receive(died)
    assert changed == StateChanged(LOST)
    assert isinstance(lost, Lost)
    assert lost.error is execution.failure()
    assert isinstance(lost.error, KernelDied)
    assert str(lost.error) == (
        "The kernel died while the code ran: killed (exit code -9; last line of stderr: boom). "
        "Restart the kernel; its variables are gone, the outputs so far are kept."
    )
    assert lost.error.details == {"exit_code": -9, "last_log": "a\nboom\n"}
    assert execution.has_ended


def test_a_lost_request_stays_lost_but_keeps_what_still_comes() -> None:
    execution = Execution("r")
    execution.receive(notice("kernel_exited", reason="killed"))
    events = feed(execution, stream("last words"), reply(), status("idle"))
    assert events == [Printed("stdout", "last words")]
    assert execution.state is LOST
    assert execution.reply is None
    assert shown(execution) == ["stream:last words"]
    assert execution.receive(notice("kernel_ended")) == []
    assert execution.lose(GatewayUnreachable("x")) == []
    assert isinstance(execution.failure(), KernelDied)


def test_the_death_of_the_kernel_changes_nothing_for_a_request_that_is_done() -> None:
    execution = Execution("r")
    feed(execution, reply(), status("idle"))
    assert execution.receive(notice("kernel_exited")) == []
    assert execution.gap(1, 2) == []
    assert (execution.state, execution.failure(), execution.has_gaps) == (DONE, None, False)
    assert feed(execution, stream("from a thread")) == [Printed("stdout", "from a thread")]
    assert shown(execution) == ["stream:from a thread"]


@pytest.mark.parametrize(
    ("mine", "its", "is_lost"),
    [
        (None, 1, True),
        (2, 1, False),
        (2, 2, True),
        (2, 3, True),
        (2, None, True),
        (2, "1", True),
    ],
)
def test_a_replayed_death_of_an_earlier_kernel_is_not_mine(
    mine: int | None, its: object, is_lost: bool
) -> None:
    execution = Execution("r", epoch=mine)
    execution.receive(notice("kernel_exited", epoch=its))
    assert execution.has_ended is is_lost


@pytest.mark.parametrize(
    ("content", "said"),
    [({"reason": "deleted"}, "shut down: deleted."), ({}, "shut down: no reason given.")],
)
def test_a_kernel_that_is_shut_down_ends_its_requests(content: dict[str, str], said: str) -> None:
    execution = Execution("r")
    execution.receive(notice("kernel_ended", **content))
    assert execution.state is LOST
    assert said in str(execution.failure())


def test_a_death_without_facts_is_still_a_sentence() -> None:
    execution = Execution("r")
    execution.receive(notice("kernel_exited", exit_code="?"))
    error = execution.failure()
    assert isinstance(error, KernelDied)
    assert "no reason known (exit code ?; last line of stderr: it wrote nothing" in str(error)
    assert error.details["exit_code"] is None


def test_the_caller_can_give_up_with_its_own_reason() -> None:
    execution, error = Execution("r"), GatewayUnreachable("no route")
    assert execution.lose(error) == [Lost(error), StateChanged(LOST)]
    assert execution.failure() is error


# --- gaps ---------------------------------------------------------------------------------------


def test_a_gap_marks_the_outputs_as_incomplete_and_the_request_goes_on() -> None:
    execution = Execution("r")
    assert execution.gap(5, 9) == [GapNoted(5, 9)]
    assert execution.has_gaps
    feed(execution, reply(), status("idle"))
    assert (execution.state, execution.failure()) == (DONE, None)


@pytest.mark.parametrize("gap_first", [True, False])
@pytest.mark.parametrize(
    ("gap", "is_lost"), [((5, 9), False), ((5, 10), True), ((10, 12), True), ((11, 12), False)]
)
def test_an_answer_that_fell_into_a_gap_ends_the_request(
    gap: tuple[int, int], is_lost: bool, gap_first: bool
) -> None:
    execution = Execution("r")
    known = notice("known_request", msg_id="r", first=4, last=10)
    if gap_first:
        events = [*execution.gap(*gap), *execution.receive(known)]
    else:
        events = [*execution.receive(known), *execution.gap(*gap)]
    assert GapNoted(*gap) in events
    assert AlreadyRan(4, 10) in events
    assert execution.has_ended is is_lost
    if is_lost:
        error = execution.failure()
        assert isinstance(error, MessagesLost)
        assert error.details == {"first": 4, "last": 10}
        assert "its answer was message 10" in str(error)


def test_a_request_that_still_runs_is_only_known() -> None:
    execution = Execution("r")
    execution.gap(1, 99)
    known = notice("known_request", msg_id="r", first=4, last=None)
    assert execution.receive(known) == [AlreadyRan(4, None)]
    assert execution.state is SENT


@pytest.mark.parametrize("content", [{"msg_id": "other", "first": 1}, {"msg_id": "r"}, {}])
def test_a_notice_about_another_request_changes_nothing(content: dict[str, object]) -> None:
    assert Execution("r").receive(notice("known_request", **content)) == []


# --- results ------------------------------------------------------------------------------------


def test_a_good_reply_is_no_failure_and_carries_the_count() -> None:
    execution = Execution("r")
    assert (execution.status, execution.failure()) == (None, None)
    assert execution.receive(reply()) == [Replied("ok", OK), StateChanged(REPLIED)]
    assert (execution.status, execution.failure()) == ("ok", None)
    assert (execution.execution_count, execution.reply) == (3, OK)


def test_an_error_reply_becomes_an_error_with_its_traceback() -> None:
    execution = Execution("r")
    execution.receive(
        reply(status="error", ename="E", evalue="v", traceback=["1", "2"], execution_count=8)
    )
    error = execution.failure()
    assert isinstance(error, ExecutionError)
    assert str(error) == "The code raised E: v"
    assert error.details == {"ename": "E", "evalue": "v", "traceback": ["1", "2"], "cell": 8}
    assert execution.status == "error"


@pytest.mark.parametrize("lines", [None, 7, "text"])
def test_an_error_whose_traceback_is_no_list_has_none(lines: object) -> None:
    execution = Execution("r")
    feed(execution, reply(status="error", traceback=lines), message("iopub", "error"))
    error = execution.failure()
    assert error is not None
    assert error.details["traceback"] == []
    assert execution.outputs[0]["traceback"] == []


@pytest.mark.parametrize("word", ["aborted", "abort"])
def test_an_aborted_request_says_so(word: str) -> None:
    execution = Execution("r")
    assert feed(execution, reply(status=word))[0] == Replied("aborted", {"status": word})
    error = execution.failure()
    assert isinstance(error, ExecutionError)
    assert error.details["ename"] == "Aborted"


def test_the_reply_of_any_kind_of_request_counts_and_other_messages_do_not() -> None:
    execution = Execution("r")
    assert feed(execution, message("shell", "odd")) == []
    assert execution.state is SENT
    feed(execution, message("control", "debug_reply", status="ok"))
    assert execution.state is REPLIED


@pytest.mark.parametrize("send", [reply, lambda parent: status("idle", parent)])
def test_messages_of_other_requests_change_nothing(send: Any) -> None:
    execution = Execution("r")
    assert execution.receive(send("other")) == []
    assert execution.receive(send("")) == []
    assert execution.state is SENT


# --- outputs ------------------------------------------------------------------------------------


def test_the_start_tells_code_and_count() -> None:
    execution = Execution("r")
    start = message("iopub", "execute_input", code="1+1", execution_count=5)
    assert execution.receive(start) == [StateChanged(BUSY), Started("1+1", 5)]
    assert execution.execution_count == 5


def test_adjacent_text_of_one_stream_is_one_output() -> None:
    execution = Execution("r")
    feed(execution, stream("a"), stream("b"), stream("c", "stderr"), stream("d"), display("x"))
    assert shown(execution) == ["stream:ab", "stream:c", "stream:d", "display_data:x"]
    feed(execution, stream("e"), stream(""), stream("f"))
    assert [output.get("name") for output in execution.outputs] == [
        "stdout", "stderr", "stdout", None, "stdout",
    ]  # fmt: skip
    assert shown(execution)[-1] == "stream:ef"
    feed(execution, stream("g"))
    assert shown(execution)[-1] == "stream:efg"


def test_a_result_is_shown_with_its_count_and_an_error_with_its_traceback() -> None:
    execution = Execution("r")
    data = {"text/plain": "2"}
    feed(
        execution,
        message("iopub", "execute_result", data=data, metadata={}, execution_count=4),
        message("iopub", "error", ename="E", evalue="v", traceback=["t"]),
    )
    assert execution.outputs == [
        {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 4},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
    ]


def test_events_carry_what_was_shown() -> None:
    execution = Execution("r")
    events = feed(execution, display("x", "id"), message("iopub", "error"))
    assert [type(event) for event in events] == [StateChanged, Displayed, Displayed]
    assert events[1:] == [
        Displayed(output, display_id)
        for output, display_id in zip(execution.outputs, ["id", None], strict=True)
    ]


def test_clearing_removes_outputs_at_once_or_with_the_next_one() -> None:
    execution = Execution("r")
    clear = message("iopub", "clear_output", wait=False)
    wait = message("iopub", "clear_output", wait=True)
    feed(execution, stream("a"))
    assert feed(execution, wait) == [Cleared(wait=True)]
    assert shown(execution) == ["stream:a"]
    feed(execution, stream("b"))
    assert shown(execution) == ["stream:b"]
    feed(execution, wait, display("c"))
    assert shown(execution) == ["display_data:c"]
    feed(execution, wait)
    assert feed(execution, clear) == [Cleared(wait=False)]
    assert shown(execution) == []
    feed(execution, stream("d"), stream("e"))
    assert shown(execution) == ["stream:de"]
    assert feed(execution, message("iopub", "clear_output")) == [Cleared(wait=False)]


def test_an_update_reaches_every_output_with_its_id_in_all_cells() -> None:
    displays = DisplayRegistry()
    one, two = Execution("1", displays=displays), Execution("2", displays=displays)
    feed(one, display("a", "id", parent="1"), display("b", "other", parent="1"))
    feed(two, display("c", "id", "execute_result", parent="2"))
    assert shown(one) == ["display_data:c", "display_data:b"]
    events = feed(two, display("d", "id", "update_display_data", parent="2"))
    assert events == [DisplayUpdated("id", {"text/plain": "d"}, {"m": "d"}, 2)]
    assert shown(one) == ["display_data:d", "display_data:b"]
    assert shown(two) == ["execute_result:d"]
    assert one.outputs[0]["metadata"] == {"m": "d"}


def test_outputs_that_were_cleared_are_not_updated_again() -> None:
    displays = DisplayRegistry()
    one, two = Execution("1", displays=displays), Execution("2", displays=displays)
    feed(one, display("a", "id", parent="1"), display("b", "gone", parent="1"))
    feed(two, display("c", "id", parent="2"))
    feed(one, message("iopub", "clear_output", "1"))
    assert displays.update("id", {}, {}) == 1
    assert displays.update("gone", {}, {}) == 0


def test_an_update_of_something_never_shown_shows_nothing() -> None:
    execution = Execution("r")
    events = feed(execution, display("a", "id", "update_display_data"))
    assert events[1:] == [DisplayUpdated("id", {"text/plain": "a"}, {"m": "a"}, 0)]
    assert feed(execution, display("a", None, "update_display_data")) == []
    assert execution.outputs == []


def test_a_request_for_input_is_an_event() -> None:
    execution = Execution("r")
    ask = message("stdin", "input_request", prompt="name? ", password=True)
    assert execution.receive(ask) == [
        StateChanged(BUSY),
        InputRequested("name? ", is_password=True),
    ]
    assert execution.receive(message("stdin", "input_request", "other")) == []


def test_a_caller_that_acts_on_events_holds_no_outputs() -> None:
    execution = Execution("r", keeps_outputs=False)
    events = feed(execution, stream("a"), display("b", "id"))
    assert [type(event) for event in events] == [StateChanged, Printed, Displayed]
    assert execution.outputs == []
    assert feed(execution, message("iopub", "clear_output")) == [Cleared(wait=False)]


def test_the_outputs_are_a_valid_notebook_cell() -> None:
    execution = Execution("r")
    feed(
        execution,
        stream("a"),
        display("b", "id"),
        message("iopub", "execute_result", data={"text/plain": "2"}, metadata={}),
        message("iopub", "error", ename="E", evalue="v", traceback=["t"]),
    )
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "1",
        "execution_count": 1,
        "outputs": execution.outputs,
    }
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    nbformat.validate(notebook)


def test_printed_lines_are_not_copied_until_somebody_looks() -> None:
    outputs = OutputList(DisplayRegistry())
    entries = outputs._entries
    for _ in range(1000):
        outputs.print("stdout", "line\n")
    assert [len(entry.pieces) for entry in entries] == [1000]
    assert outputs.as_list() == [
        {"output_type": "stream", "name": "stdout", "text": "line\n" * 1000}
    ]
    assert [len(entry.pieces) for entry in entries] == [1]


# --- hostile peers ------------------------------------------------------------------------------

CHANNEL_TYPES = [
    ("iopub", kind)
    for kind in (
        "status", "execute_input", "stream", "display_data", "execute_result", "error",
        "update_display_data", "clear_output", "comm_msg",
    )
] + [("shell", "execute_reply"), ("stdin", "input_request")] + [
    ("clouditia", kind) for kind in ("kernel_exited", "kernel_ended", "known_request", "news")
]  # fmt: skip
VALUES = st.sampled_from(
    [
        *[None, True, -1, 2**70, 1.5, "", "r", "idle", "busy", "ok", "aborted", "stdout", "\ud800"],
        *[[], [1, None], [[]], {}, {"display_id": "a"}, {"display_id": 1}, {"text/plain": None}],
    ]
)
FIELD_NAMES = (
    "status", "execution_state", "name", "text", "data", "metadata", "transient", "display_id",
    "execution_count", "code", "ename", "evalue", "traceback", "wait", "prompt", "password",
    "epoch", "reason", "exit_code", "last_stderr", "msg_id", "first", "last",
)  # fmt: skip
CONTENTS = st.dictionaries(st.sampled_from(FIELD_NAMES), VALUES, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(CHANNEL_TYPES), CONTENTS), max_size=12))
def test_whatever_a_peer_puts_into_a_message_nothing_raises(
    messages: list[tuple[tuple[str, str], dict[str, Any]]],
) -> None:
    execution = Execution("r", epoch=1)
    for (channel, msg_type), content in messages:
        execution.receive(message(channel, msg_type)._replace(content=encode_json(content)))
    assert all("output_type" in output for output in execution.outputs)
    failure = execution.failure()
    assert failure is None or str(failure)


@pytest.mark.parametrize("part", ["header", "parent_header", "content"])
@pytest.mark.parametrize("noise", [b"", b"\xff", b"[1]", b"[" * 100_000])
def test_parts_that_are_no_json_object_are_taken_as_empty(part: str, noise: bytes) -> None:
    execution = Execution("r")
    for good in (stream("x"), status("idle"), reply(), notice("kernel_state")):
        fields = good._asdict()
        fields[part] = noise
        execution.receive(Message(**fields))
    if part == "content":
        assert execution.status == "error"
        assert "an error without a name" in str(execution.failure())
    else:
        assert execution.state is SENT


@given(st.permutations(["busy", "reply", "idle", "a", "b"]))
def test_every_order_of_reply_and_idle_ends_once_with_all_outputs(order: list[str]) -> None:
    made = {"busy": status("busy"), "reply": reply(), "idle": status("idle")}
    execution = Execution("r")
    events = feed(execution, *[made.get(name) or display(name) for name in order])
    assert states(events)[-1] is DONE
    assert states(events).count(DONE) == 1
    assert sorted(shown(execution)) == ["display_data:a", "display_data:b"]
    last = max(order.index("reply"), order.index("idle"))
    shorter = Execution("r")
    feed(shorter, *[made.get(name) or display(name) for name in order[:last]])
    assert not shorter.has_ended
