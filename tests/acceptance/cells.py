"""A front end in a few lines: start a kernel from a kernelspec, run cells, answer prompts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING, Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


START_TIMEOUT_S = 60.0
CELL_TIMEOUT_S = 60.0


@dataclass
class Cell:
    """What came back for one cell."""

    reply: dict[str, Any] = field(default_factory=dict)
    stdout: str = ""
    result: str = ""
    prompts: list[tuple[str, bool]] = field(default_factory=list)
    is_idle: bool = False


@dataclass
class FrontEnd:
    """A client of one kernel, and how to interrupt it where it is ours."""

    client: BlockingKernelClient
    interrupt: Callable[[], None] | None = None

    def run(
        self,
        code: str,
        *answers: str,
        on_output: Callable[[], None] | None = None,
        timeout_s: float = CELL_TIMEOUT_S,
    ) -> Cell:
        """Execute ``code`` until reply and idle; prompts get the ``answers`` in turn."""
        cell, remaining = Cell(), list(answers)
        request = self.client.execute(code, allow_stdin=bool(answers))
        deadline = time.monotonic() + timeout_s
        while not (cell.reply and cell.is_idle):
            assert time.monotonic() < deadline, f"no reply and idle in {timeout_s} s: {cell}"
            self._take_output(cell, request)
            if on_output is not None and cell.stdout:
                on_output()
                on_output = None
            if remaining and self._answer(cell, remaining[0]):
                remaining.pop(0)
            if not cell.reply:
                cell.reply = self._take_reply(request)
        return cell

    def _take_output(self, cell: Cell, request: str) -> None:
        try:
            message = self.client.get_iopub_msg(timeout=0.1)
        except Empty:
            return
        if message["parent_header"].get("msg_id") != request:
            return
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            cell.stdout += content["text"]
        elif message["msg_type"] == "execute_result":
            cell.result = content["data"]["text/plain"]
        elif message["msg_type"] == "status":
            cell.is_idle = content["execution_state"] == "idle"

    def _answer(self, cell: Cell, answer: str) -> bool:
        try:
            content = self.client.get_stdin_msg(timeout=0.01)["content"]
        except Empty:
            return False
        cell.prompts.append((content["prompt"], content["password"]))
        self.client.input(answer)
        return True

    def _take_reply(self, request: str) -> dict[str, Any]:
        try:
            message = self.client.get_shell_msg(timeout=0.01)
        except Empty:
            return {}
        is_ours = message["parent_header"].get("msg_id") == request
        content: dict[str, Any] = message["content"] if is_ours else {}
        return content


@contextmanager
def front_end(kernel_name: str) -> Iterator[FrontEnd]:
    """Start the kernelspec ``kernel_name``; ended like a notebook that is shut down."""
    manager, client = start_new_kernel(START_TIMEOUT_S, kernel_name)
    try:
        yield FrontEnd(client, manager.interrupt_kernel)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        manager.cleanup_resources()


@contextmanager
def second_front_end(connection_file: Path) -> Iterator[FrontEnd]:
    """Join a kernel that somebody else has started, by its connection file."""
    client = BlockingKernelClient(connection_file=str(connection_file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(START_TIMEOUT_S)
        yield FrontEnd(client)
    finally:
        client.stop_channels()
