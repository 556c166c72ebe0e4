"""Cells and checks that the tests of both ways into VS Code share."""

from __future__ import annotations

from typing import Any

from tests.front_ends.node_harness import NotebookKernel
from tests.integration.front_end import Received

from clouditia.rest import GatewayClient
from clouditia.testing.chaos import LineOracle
from clouditia.testing.gateway_process import GatewayProcess

MIB = 2**20
#: For whatever is on its way on another machine.
STATE_S = 60.0
BLOCKERS = {
    "a busy loop": "print('on', flush=True)\nwhile True: pass",
    "a sleep": "import time\nprint('on', flush=True)\ntime.sleep(600)",
}
#: Answers each message on a comm with the same data and each buffer backwards; the opening, too.
ECHO = """
import comm
def opened(channel, message):
    channel.send({"opened": True}, buffers=[bytes(b)[::-1] for b in message["buffers"]])
    @channel.on_msg
    def echo(message):
        buffers = [bytes(buffer)[::-1] for buffer in message["buffers"]]
        channel.send(message["content"]["data"], buffers=buffers)
comm.get_comm_manager().register_target("echo", opened)
"""


def comm_answer(kernel: NotebookKernel, msg_id: str) -> Received:
    """What :data:`ECHO` sends back for one message."""
    return kernel.wait(
        lambda each: each.parent == msg_id and each.msg_type == "comm_msg", "the comm's answer"
    )


def answer_prompts(kernel: NotebookKernel) -> tuple[list[tuple[Any, Any]], str]:
    """Run a cell that asks for a name and a word; returns the questions and what it printed."""
    code = "import getpass\nprint(input('name? '), getpass.getpass('word? ')[::-1])"
    msg_id = kernel.execute(code, allow_stdin=True)
    asked = []
    for answer in ("Ada", "secret"):
        question = kernel.prompt(msg_id)
        asked.append((question.content["prompt"], question.content["password"]))
        kernel.answer(question, answer)
    return asked, kernel.result(msg_id).text()


def judge(kernel: NotebookKernel, msg_id: str, oracle: LineOracle) -> LineOracle:
    """Wait for the end of a cell and feed the oracle with all that it showed."""
    kernel.result(msg_id)
    for each in kernel.seen:
        if each.parent == msg_id:
            oracle.feed(each.message)
    return oracle


def kernel_ids(rest: GatewayClient) -> set[str]:
    """The user's kernels on the gateway."""
    return {str(each["id"]) for each in rest.list_kernels()}


def revoke(gateway: GatewayProcess, key: str) -> None:
    """Make a key worthless, as an operator does."""
    gateway.run("keys", "revoke", key.split("_")[1], "--state-dir", str(gateway.state_dir))
