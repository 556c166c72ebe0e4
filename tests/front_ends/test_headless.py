"""A notebook, headless on a remote kernel: nbconvert, jupyter execute, papermill, nbclient."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import nbformat
import pytest
from tests.front_ends.typed_commands import (
    WAIT_S,
    code_blocks,
    typed_command,
    user_environment,
    wait_for_no_kernel,
)

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

#: Page of the docs and beginning of the command: each is run as it stands there.
COMMANDS = {
    "nbconvert": "jupyter nbconvert",
    "nbclient": "jupyter execute",
    "papermill": "papermill",
}
each_command = pytest.mark.parametrize("page", COMMANDS)

# Only the remote kernel has KERNEL_USERNAME.
WHO = "import os\nprint(os.environ['KERNEL_USERNAME'], epochs)"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FAILURE = "def fail():\n    raise ValueError('on purpose')\nfail()"


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    """The gateway as its user sees it; no kernel outlives a test."""
    client = GatewayClient(load_target(module_target.name))
    yield client
    wait_for_no_kernel(client)


def write_notebook(directory: Path, *cells: str) -> None:
    v4: Any = nbformat.v4
    parameters = v4.new_code_cell("epochs = 1", metadata={"tags": ["parameters"]})
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(
        cells=[parameters, *map(v4.new_code_cell, cells)], metadata={"kernelspec": kernelspec}
    )
    nbformat.write(notebook, directory / "in.ipynb")


def printed(path: Path) -> list[str]:
    """What the cells of a notebook have printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [output["text"] for output in outputs if output["output_type"] == "stream"]


class HeadlessRun:
    """A command of the docs, typed in a folder with `in.ipynb`."""

    def __init__(self, page: str, home: IsolatedHome, directory: Path) -> None:
        self._process = subprocess.Popen(
            typed_command(page, COMMANDS[page]),
            env=user_environment(home),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # as a shell does: Ctrl-C reaches this job, not the tests
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def press_ctrl_c(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns exit code and what was written to the terminal."""
        try:
            output, _ = self._process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"no end in {WAIT_S:g} s; it wrote:\n{late.output}") from None
        return self._process.returncode, _COLOUR.sub("", output)


@each_command
def test_the_docs_command_runs_the_notebook_remotely_and_ends_its_kernel(
    page: str, module_home: IsolatedHome, remote: GatewayClient, tmp_path: Path
) -> None:
    write_notebook(tmp_path, WHO)
    with HeadlessRun(page, module_home, tmp_path) as run:
        code, output = run.end()
    assert code == 0, output
    epochs = 3 if page == "papermill" else 1
    assert printed(tmp_path / "out.ipynb") == [f"ada {epochs}\n"]
    assert "Traceback" not in output


@each_command
def test_a_failing_cell_gives_its_traceback_a_non_zero_exit_and_no_kernel(
    page: str, module_home: IsolatedHome, remote: GatewayClient, tmp_path: Path
) -> None:
    write_notebook(tmp_path, "print('before')", FAILURE, "print('never')")
    with HeadlessRun(page, module_home, tmp_path) as run:
        code, output = run.end()
    assert code == 1
    assert "ValueError: on purpose" in output
    assert "raise ValueError" in output
    if page == "papermill":
        assert printed(tmp_path / "out.ipynb") == ["before\n"]
    else:
        assert not (tmp_path / "out.ipynb").exists()


@each_command
def test_ctrl_c_ends_the_run_and_the_remote_kernel(
    page: str, module_home: IsolatedHome, remote: GatewayClient, tmp_path: Path
) -> None:
    busy = tmp_path / "busy"
    write_notebook(tmp_path, f"open({str(busy)!r}, 'w').close()\nwhile True: pass")
    with HeadlessRun(page, module_home, tmp_path) as run:
        wait_until(busy.exists, WAIT_S, what="the cell runs")
        run.press_ctrl_c()
        code, _ = run.end()
    assert code != 0


def test_the_docs_python_lines_run_the_notebook(
    module_home: IsolatedHome, remote: GatewayClient, tmp_path: Path
) -> None:
    write_notebook(tmp_path, WHO)
    (lines,) = code_blocks("nbclient", "python")
    subprocess.run(
        [sys.executable, "-c", lines],
        env=module_home.environment(),
        cwd=tmp_path,
        timeout=WAIT_S,
        check=True,
    )
    assert printed(tmp_path / "out.ipynb") == ["ada 1\n"]
