"""A kernel that dies under a headless run: the run ends with the cause, and nothing is left."""

from __future__ import annotations

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

pytestmark = pytest.mark.faults


def test_a_segfault_ends_the_run_with_the_signal_and_the_last_lines(
    module_target: LoggedInTarget,
) -> None:
    dying = "import ctypes, os, time\nos.write(2, b'last words\\n')\ntime.sleep(0.3)"
    cells = ["print('before')", f"{dying}\nctypes.string_at(0)", "print('never')"]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, kernel_name=module_target.kernel_name(), timeout=60)
    with pytest.raises(CellExecutionError) as failure:
        client.execute()
    assert failure.value.ename == "KernelDied"
    assert "SIGSEGV (it touched memory" in failure.value.evalue
    assert "last words" in str(failure.value)
    assert notebook.cells[0].outputs[0]["text"] == "before\n"
    assert notebook.cells[2].outputs == []
    rest = GatewayClient(load_target(module_target.name))
    wait_until(lambda: not rest.list_kernels(), 60, what="the run has ended its kernel")
