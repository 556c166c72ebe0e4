"""A remote kernel in VS Code as a local one: "Jupyter Kernel…", without Jupyter and provisioner.

VS Code itself cannot run here; ``node_harness`` does what its Jupyter extension does.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.front_ends.node_harness import NotebookKernel, VsCodeRaw
from tests.front_ends.vscode_cells import (
    BLOCKERS,
    ECHO,
    MIB,
    answer_prompts,
    comm_answer,
    judge,
)
from tests.integration.front_end import Received

from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import LoggedInTarget

#: A picture of one pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def window(module_target: LoggedInTarget) -> Iterator[VsCodeRaw]:
    home = module_target.gateway.home
    folder = home.directory / "notebooks"
    folder.mkdir()
    with VsCodeRaw(module_target.kernel_name(), home, folder) as window:
        yield window
        assert not [text for text in window.logs if "Canceled future" not in text]


@pytest.fixture(scope="module")
def kernel(window: VsCodeRaw) -> Iterator[NotebookKernel]:
    kernel = window.open_notebook()
    yield kernel
    window.close(kernel)


# --- the picker ----------------------------------------------------------------------------------


def test_the_picker_shows_the_kernelspec_and_it_holds_no_secret(
    window: VsCodeRaw, module_target: LoggedInTarget
) -> None:
    specs: dict[str, dict[str, Any]] = window.call("raw_specs")
    spec = specs[module_target.kernel_name()]
    program = Path(spec["argv"][0])
    assert program.is_absolute()
    assert os.access(program, os.X_OK)
    # It hides what starts a Python that it does not know, and rewrites what starts ipykernel.
    assert "python" not in program.name
    assert not [word for word in spec["argv"] if word == "-m" or "ipykernel" in word]
    # Nothing else is filled in, and only where it stands alone.
    assert re.findall(r"\{\w*\}", " ".join(spec["argv"])) == ["{connection_file}"]
    assert spec["argv"][-2:] == ["-f", "{connection_file}"]
    assert (spec["language"], spec["interrupt_mode"]) == ("python", "message")
    # Two entries of one program and one title are shown as one.
    titles = [(each["argv"][0], each["display_name"]) for each in specs.values()]
    assert len(set(titles)) == len(titles)
    text = json.dumps(spec)
    assert not [secret for secret in (module_target.key, "http", "127.0.0.1") if secret in text]


# --- cells ---------------------------------------------------------------------------------------


def test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made(
    kernel: NotebookKernel,
) -> None:
    ran = kernel.run(
        "import base64, sys\nfrom IPython.display import Image, display\n"
        "print('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\n"
        f"display(Image(base64.b64decode({PIXEL!r})))\nprint('three', flush=True)\n'four'"
    )
    shown = [(each.msg_type, shape(each)) for each in ran.outputs]
    assert shown[0] == ("status", "busy")
    assert shown[1][0] == "execute_input"
    assert shown[2:] == [
        ("stream", "stdout one\n"),
        ("stream", "stderr two\n"),
        ("display_data", "image/png"),
        ("stream", "stdout three\n"),
        ("execute_result", "text/plain"),
        ("status", "idle"),
    ]
    (picture,) = ran.of("display_data")
    assert base64.b64decode(picture["data"]["image/png"]) == base64.b64decode(PIXEL)


def shape(output: Received) -> str:
    content = output.content
    if output.msg_type == "stream":
        return f"{content['name']} {content['text']}"
    if output.msg_type == "status":
        return str(content["execution_state"])
    return min(content.get("data", {}), default="")


def test_an_error_ends_the_cell_with_its_name_and_traceback(kernel: NotebookKernel) -> None:
    ran = kernel.run("{}['absent']")
    for content in (ran.reply.content, ran.of("error")[0]):
        assert (content["ename"], content["evalue"]) == ("KeyError", "'absent'")
        assert content["traceback"]
    assert kernel.settled(ran.reply.parent) == "error"


def test_input_and_a_password_are_asked_for_in_the_window(kernel: NotebookKernel) -> None:
    asked, printed = answer_prompts(kernel)
    assert asked == [("name? ", False), ("word? ", True)]
    assert printed == "Ada terces\n"


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
@pytest.mark.parametrize("channel", ["control", "shell"])
def test_the_interrupt_button_ends_the_cell_and_keeps_the_kernel(
    window: VsCodeRaw, kernel: NotebookKernel, blocker: str, channel: str
) -> None:
    """Its request comes on control, from releases of before 2024 on shell."""
    kernel.run("kept = 'still here'")
    msg_id = kernel.execute(blocker)
    kernel.printed(msg_id, "on")
    if channel == "control":
        assert window.interrupt(kernel)["status"] == "ok"
    else:
        assert kernel.ask("interrupt_request", {})["status"] == "ok"
    assert kernel.result(msg_id).reply.content["ename"] == "KeyboardInterrupt"
    assert kernel.run("print(kept)").text() == "still here\n"


def test_a_widget_sends_a_megabyte_both_ways_over_a_subshell(kernel: NotebookKernel) -> None:
    kernel.run(ECHO)
    first, second, third = os.urandom(MIB), os.urandom(MIB), os.urandom(MIB)
    comm_id, opening = kernel.open_comm("echo", {}, first)
    assert comm_answer(kernel, opening).buffers == [first[::-1]]
    sending = kernel.send_to_comm(comm_id, {"n": 1}, second, third)
    echo = comm_answer(kernel, sending)
    assert echo.content == {"comm_id": comm_id, "data": {"n": 1}}
    assert echo.buffers == [second[::-1], third[::-1]]
    # ipykernel 7 offers subshells, and the library uses one for each comm target.
    assert kernel.state()["has_subshells"]
    assert echo.message["parent_header"]["subshell_id"]


def test_a_comm_that_the_kernel_opens_reaches_the_target_in_the_window(
    kernel: NotebookKernel,
) -> None:
    kernel.call("comm_target", target="view")
    ran = kernel.run(
        "import comm, os\nblob = os.urandom(2**20)\ngot = []\n"
        "view = comm.create_comm(target_name='view', data={'a': 1}, buffers=[blob])\n"
        "view.on_msg(lambda message: got.append(bytes(message['buffers'][0])))"
    )
    (opened,) = (each for each in ran.outputs if each.msg_type == "comm_open")
    assert len(opened.buffers[0]) == MIB
    kernel.send_to_comm(opened.content["comm_id"], {}, opened.buffers[0])
    waiting = "import time\nwhile not got: time.sleep(0.01)\nprint(got == [blob])"
    assert kernel.run(waiting).text() == "True\n"


def test_completion_and_hover_know_the_remote_namespace(kernel: NotebookKernel) -> None:
    # Jedi reads half the standard library first: seconds in a new home, remote or not.
    kernel.run("%config IPCompleter.use_jedi = False\ndef remote_name():\n    'said over there'")
    complete = kernel.ask("complete_request", {"code": "remote_na", "cursor_pos": 9})
    assert "remote_name" in complete["matches"]
    asked = {"code": "remote_name", "cursor_pos": 5, "detail_level": 0}
    inspected = kernel.ask("inspect_request", asked)
    assert "said over there" in inspected["data"]["text/plain"]


def test_the_cell_runs_in_the_kernel_of_the_gateway(
    window: VsCodeRaw, kernel: NotebookKernel, module_gateway: GatewayProcess
) -> None:
    facts = window.process(kernel)
    pid, folder = kernel.run("import os\nprint(os.getpid(), os.getcwd())").text().split()
    assert int(pid) != facts["pid"]
    # The notebook's folder is the bridge's; the kernel has one on its own machine.
    assert Path(f"/proc/{facts['pid']}/cwd").readlink() == window.folder
    assert Path(folder) != window.folder
    assert Path(folder).is_relative_to(module_gateway.home.directory)
    assert facts["stdout"] == facts["stderr"] == ""


def test_the_debugger_attaches_on_control_and_stops_at_a_breakpoint(window: VsCodeRaw) -> None:
    kernel = window.open_notebook()
    code = "a = 1\nb = a + 1\nb"
    arguments = {"clientID": "vscode", "adapterID": "", "pathFormat": "path"}
    assert debug(kernel, 1, "initialize", arguments)["success"]
    assert debug(kernel, 2, "attach", {})["success"]
    source = debug(kernel, 3, "dumpCell", {"code": code})["body"]["sourcePath"]
    where = {"source": {"path": source}, "breakpoints": [{"line": 2}]}
    assert debug(kernel, 4, "setBreakpoints", where)["body"]["breakpoints"][0]["verified"]
    assert debug(kernel, 5, "configurationDone", {})["success"]
    msg_id = kernel.execute(code)
    stopped = kernel.wait(
        lambda each: each.msg_type == "debug_event" and each.content["event"] == "stopped",
        "the breakpoint",
    )
    assert debug(kernel, 6, "continue", {"threadId": stopped.content["body"]["threadId"]})
    assert kernel.result(msg_id).of("execute_result")[0]["data"]["text/plain"] == "2"
    window.close(kernel)


def debug(
    kernel: NotebookKernel, seq: int, command: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    request = {"type": "request", "seq": seq, "command": command, "arguments": arguments}
    reply: dict[str, Any] = kernel.ask("debug_request", request, channel="control")
    return reply


# --- the gateway ---------------------------------------------------------------------------------


def test_a_cell_that_prints_while_the_gateway_is_killed_shows_every_line_once(
    target: LoggedInTarget,
) -> None:
    oracle = LineOracle(400)
    with VsCodeRaw(target.kernel_name(), target.gateway.home) as window:
        kernel = window.open_notebook()
        kernel.run("kept = 'still here'")
        kernel.seen.clear()
        msg_id = kernel.execute(oracle.code(oracle.count, every_s=0.01))
        kernel.printed(msg_id, "#50")
        bridge = window.process(kernel)["pid"]
        target.gateway.restart(kill=True)
        kernel.printed(msg_id, f"#{oracle.count - 1}")
        assert judge(kernel, msg_id, oracle).verdict() == HEALTHY
        assert kernel.run("print(kept)").text() == "still here\n"
        facts = window.process(kernel)
        assert (facts["pid"], facts["exit_code"]) == (bridge, None)
        assert kernel.exits == []
        window.close(kernel)
