"""Kernels of stock servers in VS Code, which starts the kernelspec without our provisioner."""

from __future__ import annotations

from tests.front_ends.node_harness import VsCodeRaw
from tests.peers.plain_targets import RemoteKernel

BUSY = "print('on', flush=True)\nwhile True: pass"
WHICH = "import ipykernel; print(ipykernel.get_connection_file())"


def test_a_notebook_runs_is_interrupted_restarted_and_closed(remote: RemoteKernel) -> None:
    with VsCodeRaw(remote.name, remote.target.home) as window:
        notebook = window.open_notebook()
        ran = notebook.run("kept = 1\nprint('text')\nfrom IPython.display import HTML\nHTML('<b>')")
        assert ran.text() == "text\n"
        assert ran.of("execute_result")[0]["data"]["text/html"] == "<b>"
        asked = notebook.execute("print(input('name? '))", allow_stdin=True)
        notebook.answer(notebook.prompt(asked), "Ada")
        assert notebook.result(asked).text() == "Ada\n"
        busy = notebook.execute(BUSY)
        notebook.printed(busy, "on")
        window.interrupt(notebook)
        assert notebook.result(busy).reply.content["ename"] == "KeyboardInterrupt"
        assert notebook.run("print(kept)").text() == "1\n"
        first = _kernel_id(notebook.run(WHICH).text())
        window.restart(notebook)
        assert notebook.run("print('kept' in globals())").text() == "False\n"
        second = _kernel_id(notebook.run(WHICH).text())
        assert first != second
        assert window.close(notebook)["exit_code"] == 0
    for kernel_id in (first, second):
        remote.target.wait_until_gone(kernel_id)


def _kernel_id(connection_file: str) -> str:
    return connection_file.strip().rpartition("kernel-")[2].removesuffix(".json")
