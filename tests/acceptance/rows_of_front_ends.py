"""Rows about kernels in front ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import papermill
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from tests.acceptance.cells import front_end, second_front_end

from clouditia.testing.jupyter_server import jupyter_server
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.testing.gateway_process import GatewayProcess

#: Longer than the link's ping (10 s) and idle (20 s) limits.
SILENT_S = 25


def interrupting_reaches_the_remote_cell(gateway: GatewayProcess) -> None:
    with front_end(log_in(gateway).kernel_name()) as notebook:
        notebook.run("kept = 'still here'")
        busy = "print('running', flush=True)\nwhile True: pass"
        cell = notebook.run(busy, on_output=notebook.interrupt)
        assert cell.reply["ename"] == "KeyboardInterrupt"
        assert notebook.run("kept").result == "'still here'"


def prompts_reach_the_front_end(gateway: GatewayProcess) -> None:
    code = "import getpass\nprint(input('name? '), getpass.getpass('word? ')[::-1])"
    with front_end(log_in(gateway).kernel_name()) as notebook:
        cell = notebook.run(code, "Ada", "secret")
        assert cell.stdout == "Ada terces\n"
        assert cell.prompts == [("name? ", False), ("word? ", True)]


def a_long_silent_cell_ends_with_its_reply(gateway: GatewayProcess) -> None:
    code = f"import time; began = time.monotonic(); time.sleep({SILENT_S}); 'done'"
    with front_end(log_in(gateway).kernel_name()) as notebook:
        cell = notebook.run(code, timeout_s=SILENT_S + 30)
        assert cell.reply["status"] == "ok"
        assert cell.result == "'done'"


def nbclient_and_papermill_run_headless(gateway: GatewayProcess) -> None:
    kernel_name = log_in(gateway).kernel_name()
    notebook = new_notebook(cells=[new_code_cell("import os\nos.getpid()")])
    NotebookClient(notebook, kernel_name=kernel_name, timeout=60).execute()
    assert int(notebook.cells[0].outputs[0]["data"]["text/plain"])

    parameters = new_code_cell("x = 1", metadata={"tags": ["parameters"]})
    source = new_notebook(
        cells=[parameters, new_code_cell("print(x * 2)")],
        metadata={"kernelspec": {"name": kernel_name, "language": "python", "display_name": "r"}},
    )
    written, executed = gateway.home.directory / "in.ipynb", gateway.home.directory / "out.ipynb"
    nbformat.write(source, written)
    papermill.execute_notebook(
        written, executed, parameters={"x": 21}, kernel_name=kernel_name, progress_bar=False
    )
    last = nbformat.read(executed, as_version=4).cells[-1]
    assert last.outputs[0]["text"] == "42\n"


def local_and_remote_kernels_side_by_side(gateway: GatewayProcess) -> None:
    names = ["python3", log_in(gateway).kernel_name()]
    with jupyter_server(gateway.home) as server:
        assert set(names) <= set(server.call("GET", "/api/kernelspecs")["kernelspecs"])
        sessions = [server.call("POST", "/api/sessions", _session_on(name)) for name in names]
        listed = [kernel["name"] for kernel in server.call("GET", "/api/kernels")]
        assert sorted(listed) == sorted(names)
        parents = [_parent_of_kernel(gateway, session["kernel"]["id"]) for session in sessions]
        assert parents[0] == server.process.pid
        assert parents[1] != server.process.pid
        for session in sessions:
            server.call("DELETE", f"/api/sessions/{session['id']}")


def _parent_of_kernel(gateway: GatewayProcess, kernel_id: str) -> int:
    connection_file = gateway.home.runtime_dir / f"kernel-{kernel_id}.json"
    with second_front_end(connection_file) as notebook:
        return int(notebook.run("import os; os.getppid()").result)


def _session_on(kernel_name: str) -> dict[str, Any]:
    return {
        "path": f"{kernel_name}.ipynb",
        "name": "",
        "type": "notebook",
        "kernel": {"name": kernel_name},
    }


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {
    "C130": interrupting_reaches_the_remote_cell,
    "C131": prompts_reach_the_front_end,
    "X34": a_long_silent_cell_ends_with_its_reply,
    "G3": nbclient_and_papermill_run_headless,
    "G5": local_and_remote_kernels_side_by_side,
}
