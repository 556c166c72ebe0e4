"""Every kind of message between a front end and a remote ipykernel, through all real parts."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.front_end import FrontEnd, connected, started

from clouditia.testing.targets import LoggedInTarget

MIB = 2**20


@pytest.fixture(scope="module")
def manager(module_target: LoggedInTarget) -> Iterator[Any]:
    with started(module_target.kernel_name()) as running:
        yield running


@pytest.fixture
def front_end(manager: Any) -> Iterator[FrontEnd]:
    with connected(manager) as connection:
        yield connection


def test_stdout_and_stderr_arrive_in_the_order_in_which_they_were_written(
    front_end: FrontEnd,
) -> None:
    ran = front_end.run(
        "import sys\n"
        "for n in range(20):\n"
        "    print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True)"
    )
    streams = [(each["name"], each["text"]) for each in ran.of("stream")]
    expected = [("stderr" if n % 2 else "stdout", f"{n}\n") for n in range(20)]
    assert streams == expected


def test_busy_input_output_and_idle_come_in_this_order(front_end: FrontEnd) -> None:
    ran = front_end.run("print('out')\n'result'")
    assert [each.msg_type for each in ran.outputs] == [
        "status",
        "execute_input",
        "stream",
        "execute_result",
        "status",
    ]
    assert ran.reply.content["status"] == "ok"
    assert ran.of("execute_result")[0]["data"] == {"text/plain": "'result'"}


def test_an_error_has_its_name_and_traceback_in_reply_and_output(front_end: FrontEnd) -> None:
    ran = front_end.run("{}['absent']")
    for content in (ran.reply.content, ran.of("error")[0]):
        assert (content["ename"], content["evalue"]) == ("KeyError", "'absent'")
        assert content["traceback"]


def test_rich_display_and_its_update(front_end: FrontEnd) -> None:
    ran = front_end.run(
        "from IPython.display import HTML, display\n"
        "shown = display(HTML('<b>one</b>'), metadata={'isolated': True}, display_id='d1')\n"
        "shown.update(HTML('<b>two</b>'))"
    )
    first, second = ran.of("display_data", "update_display_data")
    assert first["data"]["text/html"] == "<b>one</b>"
    assert first["metadata"] == {"isolated": True}
    assert second["data"]["text/html"] == "<b>two</b>"
    assert first["transient"] == second["transient"] == {"display_id": "d1"}
    types = [each.msg_type for each in ran.outputs]
    assert types.index("display_data") < types.index("update_display_data")


def test_a_display_can_be_updated_from_a_later_cell(front_end: FrontEnd) -> None:
    front_end.run("from IPython.display import display; later = display('one', display_id='d2')")
    (updated,) = front_end.run("later.update('two')").of("update_display_data")
    assert updated["data"]["text/plain"] == "'two'"
    assert updated["transient"] == {"display_id": "d2"}


def test_clear_output_keeps_its_place_and_its_wait_flag(front_end: FrontEnd) -> None:
    ran = front_end.run(
        "from IPython.display import clear_output\n"
        "print('old', flush=True)\nclear_output(wait=True)\nprint('new', flush=True)"
    )
    seen = [each.content for each in ran.outputs if each.msg_type in ("stream", "clear_output")]
    assert [each.get("text", each.get("wait")) for each in seen] == ["old\n", True, "new\n"]


ECHO = """
import comm
def opened(channel, message):
    @channel.on_msg
    def echo(message):
        reversed_buffers = [bytes(buffer)[::-1] for buffer in message["buffers"]]
        channel.send(message["content"]["data"], buffers=reversed_buffers)
comm.get_comm_manager().register_target("echo", opened)
"""


def test_a_comm_of_the_front_end_carries_a_megabyte_both_ways(front_end: FrontEnd) -> None:
    front_end.run(ECHO)
    opening = {"comm_id": "c1", "target_name": "echo", "data": {}}
    front_end.send("comm_open", opening)
    sent = os.urandom(MIB), os.urandom(MIB)
    message = {"comm_id": "c1", "data": {"n": 1}}
    msg_id = front_end.send("comm_msg", message, buffers=sent)
    echo = front_end.wait(
        lambda each: each.parent == msg_id and each.msg_type == "comm_msg", "the echo"
    )
    assert echo.content == {"comm_id": "c1", "data": {"n": 1}}
    assert echo.buffers == [buffer[::-1] for buffer in sent]


def test_a_comm_of_the_kernel_opens_sends_and_closes_with_a_megabyte(front_end: FrontEnd) -> None:
    ran = front_end.run(
        "import comm, hashlib, os\n"
        "blob = os.urandom(2**20)\n"
        "c = comm.create_comm(target_name='view', data={'a': 1}, buffers=[blob])\n"
        "c.send({'b': 2}, buffers=[blob[::-1]])\n"
        "c.close()\n"
        "print(hashlib.sha256(blob).hexdigest())"
    )
    opened, message, closed = (each for each in ran.outputs if each.msg_type.startswith("comm_"))
    assert [each.msg_type for each in (opened, message, closed)] == [
        "comm_open",
        "comm_msg",
        "comm_close",
    ]
    assert opened.content["target_name"] == "view"
    assert len(opened.buffers[0]) == MIB
    assert opened.buffers[0] == message.buffers[0][::-1]
    assert ran.text() == hashlib.sha256(opened.buffers[0]).hexdigest() + "\n"


def test_input_and_getpass_ask_the_front_end(front_end: FrontEnd) -> None:
    code = "import getpass\nprint(input('name? '), getpass.getpass('word? '))"
    msg_id = front_end.execute(code, allow_stdin=True)
    asked = []
    for answer in ("Ada", "secret"):
        asked.append(front_end.prompt(msg_id).content)
        front_end.client.input(answer)
    assert asked == [
        {"prompt": "name? ", "password": False},
        {"prompt": "word? ", "password": True},
    ]
    assert front_end.result(msg_id).text() == "Ada secret\n"


def test_input_fails_at_once_where_the_front_end_cannot_be_asked(front_end: FrontEnd) -> None:
    assert front_end.run("input('? ')").reply.content["ename"] == "StdinNotImplementedError"


def test_completion_knows_the_remote_namespace(front_end: FrontEnd) -> None:
    # Jedi reads half the standard library first: seconds in a new home, remote or not.
    front_end.run("%config IPCompleter.use_jedi = False\nremote_variable = 1")
    code = "print(remote_var"
    reply = front_end.ask("complete_request", {"code": code, "cursor_pos": len(code)})
    assert "remote_variable" in reply["matches"]
    assert code[reply["cursor_start"] : reply["cursor_end"]] == "remote_var"


def test_inspection_shows_the_docstring_of_a_remote_function(front_end: FrontEnd) -> None:
    front_end.run("def documented():\n    'said on the other side'")
    request = {"code": "documented", "cursor_pos": 10, "detail_level": 0}
    reply = front_end.ask("inspect_request", request)
    assert reply["found"]
    assert "said on the other side" in reply["data"]["text/plain"]


def test_history_has_the_cells_that_ran(front_end: FrontEnd) -> None:
    front_end.run("remembered = 'a cell'")
    request = {"hist_access_type": "tail", "output": False, "raw": True, "n": 1}
    (entry,) = front_end.ask("history_request", request)["history"]
    assert entry[2] == "remembered = 'a cell'"


@pytest.mark.parametrize(
    ("code", "status"),
    [("1 + 1", "complete"), ("for n in x:", "incomplete"), ("1 = 2", "invalid")],
)
def test_is_complete_tells(front_end: FrontEnd, code: str, status: str) -> None:
    assert front_end.ask("is_complete_request", {"code": code})["status"] == status


def test_kernel_info_comes_on_both_channels(front_end: FrontEnd) -> None:
    for channel in ("shell", "control"):
        reply = front_end.ask("kernel_info_request", {}, channel=channel)
        assert reply["implementation"] == "ipython"


needs_debugger = pytest.mark.skipif(
    importlib.util.find_spec("debugpy") is None, reason="the kernel has no debugpy to speak to"
)


@needs_debugger
def test_a_debugger_sets_a_breakpoint_stops_there_and_goes_on(
    module_target: LoggedInTarget,
) -> None:
    """Its events come on iopub while the shell is stopped: only control can go on.

    In a kernel of its own, which takes the debug adapter's process with it.
    """
    code = "a = 1\nb = a + 1\nb"
    with started(module_target.kernel_name()) as manager, connected(manager) as front_end:
        arguments = {"clientID": "test", "adapterID": "", "pathFormat": "path"}
        assert debug(front_end, 1, "initialize", arguments)["body"][
            "supportsConditionalBreakpoints"
        ]
        assert debug(front_end, 2, "attach")["success"]
        source = debug(front_end, 3, "dumpCell", {"code": code})["body"]["sourcePath"]
        where = {"source": {"path": source}, "breakpoints": [{"line": 2}]}
        assert debug(front_end, 4, "setBreakpoints", where)["body"]["breakpoints"][0]["verified"]
        assert debug(front_end, 5, "configurationDone")["success"]
        msg_id = front_end.execute(code)
        stopped = front_end.wait(
            lambda each: each.msg_type == "debug_event" and each.content["event"] == "stopped",
            "the breakpoint",
        )
        assert stopped.channel == "iopub"
        thread = stopped.content["body"]["threadId"]
        assert debug(front_end, 6, "continue", {"threadId": thread})["success"]
        assert front_end.result(msg_id).of("execute_result")[0]["data"]["text/plain"] == "2"


def debug(
    front_end: FrontEnd, seq: int, command: str, arguments: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Send one message of the Debug Adapter Protocol and return its answer."""
    request = {"type": "request", "seq": seq, "command": command, "arguments": arguments or {}}
    reply: dict[str, Any] = front_end.ask("debug_request", request, channel="control")
    assert reply["request_seq"] == seq
    return reply


def test_a_subshell_answers_while_the_main_shell_is_busy(front_end: FrontEnd) -> None:
    """The cell ends only if the subshell runs: it waits for what the subshell sets."""
    subshell = front_end.ask("create_subshell_request", {}, channel="control")["subshell_id"]
    main = front_end.execute(
        "import threading\ngate = threading.Event()\n"
        "print('waiting', flush=True)\nprint(gate.wait(60))"
    )
    front_end.printed(main, "waiting")
    listed = front_end.ask("list_subshell_request", {}, channel="control")
    assert listed["subshell_id"] == [subshell]
    aside = front_end.result(front_end.execute("gate.set(); 'aside'", subshell=subshell))
    assert aside.reply.content["status"] == "ok"
    assert aside.reply.message["parent_header"]["subshell_id"] == subshell
    assert aside.of("execute_result")[0]["data"]["text/plain"] == "'aside'"
    assert front_end.result(main).text() == "waiting\nTrue\n"
    deleted = front_end.ask("delete_subshell_request", {"subshell_id": subshell}, channel="control")
    assert deleted["status"] == "ok"


def test_each_of_two_clients_gets_its_replies_and_both_get_all_outputs(
    manager: Any, front_end: FrontEnd
) -> None:
    with connected(manager) as other:
        mine, theirs = front_end.execute("print('mine')"), other.execute("print('theirs')")
        for reader in (front_end, other):
            reader.printed(mine, "mine")
            reader.printed(theirs, "theirs")
        assert front_end.result(mine).reply.content["status"] == "ok"
        assert other.result(theirs).reply.content["status"] == "ok"
        # A reply that went astray would have come before the reply to a later request.
        for reader, foreign in ((front_end, theirs), (other, mine)):
            reader.run("pass")
            assert not [m for m in reader.seen if m.channel == "shell" and m.parent == foreign]


def test_a_question_goes_only_to_the_client_whose_cell_asks(
    manager: Any, front_end: FrontEnd
) -> None:
    with connected(manager) as other:
        msg_id = other.execute("print(input('? '))", allow_stdin=True)
        other.prompt(msg_id)
        other.client.input("from the other")
        assert other.result(msg_id).text() == "from the other\n"
        front_end.run("pass")
        assert not [each for each in front_end.seen if each.channel == "stdin"]
