"""``clouditia run``, ``attach`` and the embedded gateway, as a person types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from clouditia.rest import GatewayClient
from clouditia.settings import Target, load_target
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    client = GatewayClient(load_target(module_target.name))
    yield client
    for kernel in client.list_kernels():
        client.shutdown(kernel["id"])


def start(home: IsolatedHome, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "clouditia.cli", *arguments],
        env=home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(home: IsolatedHome, *arguments: str) -> tuple[int, str, str]:
    with start(home, *arguments) as process:
        try:
            out, err = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def write_notebook(path: Path, *cells: str) -> Path:
    v4: Any = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    notebook.metadata = {"kernelspec": {"name": "mine", "display_name": "Mine"}}
    path.write_text(json.dumps(notebook))
    return path


def test_a_notebook_runs_with_progress_and_says_where(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient, tmp_path: Path
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "x = 20", "print(x + 1)\nx")
    code, out, err = run(module_home, "run", str(source))
    assert code == 0, err
    assert out == "21\n"
    assert "[1/2]" in err
    assert "[2/2]" in err
    assert "ran on lab (http://" in err
    done = json.loads((tmp_path / "a.executed.ipynb").read_text())
    assert done["cells"][1]["outputs"][0]["text"] == ["21\n"]
    assert done["metadata"] == {"kernelspec": {"name": "mine", "display_name": "Mine"}}
    assert "outputs" not in source.read_text() or '"21' not in source.read_text()
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_a_failing_cell_is_exit_code_8_and_the_notebook_is_written(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "print('one')", "1/0", "print('never')")
    output = tmp_path / "out.ipynb"
    code, out, err = run(module_home, "run", str(source), "-o", str(output))
    assert code == 8
    assert out == "one\n"
    assert "cell 2 raised ZeroDivisionError: division by zero" in err
    assert "\x1b[" not in err
    cells = json.loads(output.read_text())["cells"]
    assert cells[1]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert cells[2]["outputs"] == []


def test_a_dying_kernel_is_exit_code_5_with_its_cause(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "import os; os.kill(os.getpid(), 9)")
    code, _, err = run(module_home, "run", str(source))
    assert code == 5
    assert "killed by SIGKILL" in err


def test_a_slow_cell_is_exit_code_7(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "while True: pass")
    code, out, _ = run(module_home, "run", str(source), "--timeout", "1", "--json")
    assert code == 7
    assert json.loads(out)["error"]["code"] == "execution_timeout"


def test_a_script_prints_to_both_streams_and_writes_no_notebook(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    script = tmp_path / "a.py"
    script.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\n")
    code, out, err = run(module_home, "run", str(script))
    assert (code, out) == (0, "out\n")
    assert "err\n" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


def test_json_output_is_one_object_and_the_cells_print_elsewhere(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    script = tmp_path / "a.py"
    script.write_text("print('out')")
    code, out, err = run(module_home, "--json", "run", str(script))
    data = json.loads(out)
    assert code == 0
    assert (data["target"], data["cells"], data["output"]) == ("lab", 1, None)
    assert data["kernel_id"]
    assert data["host"]
    assert "out\n" in err


def test_ctrl_c_interrupts_the_cell_writes_the_notebook_and_ends_the_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient, tmp_path: Path
) -> None:
    source = write_notebook(
        tmp_path / "a.ipynb",
        "print('on', flush=True)\nwhile True: pass",
        "print('never')",
    )
    with start(module_home, "run", str(source)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (130, ""), err
    first, second = json.loads((tmp_path / "a.executed.ipynb").read_text())["cells"]
    assert first["outputs"][1]["ename"] == "KeyboardInterrupt"
    assert second["outputs"] == []
    wait_until(lambda: not remote.list_kernels(), WAIT_S)


def test_an_unknown_kernelspec_names_the_known_ones(
    module_home: IsolatedHome, module_target: LoggedInTarget, tmp_path: Path
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "1")
    code, _, err = run(module_home, "run", str(source), "--kernel", "absent")
    assert code == 5
    assert "python3" in err
    assert not (tmp_path / "a.executed.ipynb").exists()


def test_attach_shows_the_output_of_a_run_from_its_beginning_and_ends_with_it(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient, tmp_path: Path
) -> None:
    script = tmp_path / "a.py"
    gate = tmp_path / "gate"
    script.write_text(
        "import pathlib, time\nprint('first', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\nprint('last')\n"
    )
    with start(module_home, "run", str(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        (kernel,) = remote.list_kernels()
        with start(module_home, "attach", kernel["id"][:8]) as attached:
            assert attached.stdout is not None
            assert attached.stdout.readline() == "first\n"
            gate.touch()
            rest, talk = attached.communicate(timeout=WAIT_S)
        process.communicate(timeout=WAIT_S)
    assert rest == "last\n"
    assert attached.returncode == 0, talk
    assert "attached to" in talk


def test_attach_to_an_idle_kernel_says_so(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    kernel = remote.start_kernel("python3", env={}, path="")
    wait_until(lambda: remote.get_kernel(kernel["id"])["execution_state"] == "idle", WAIT_S)
    code, out, err = run(module_home, "kernels", "attach", kernel["id"])
    assert (code, out) == (0, "")
    assert "nothing runs" in err


def test_the_embedded_gateway_starts_when_needed_and_is_shared(
    module_home: IsolatedHome, tmp_path: Path
) -> None:
    script = tmp_path / "a.py"
    script.write_text("print('here')")
    state = module_home.state_dir / "embedded"
    try:
        for _ in range(2):
            code, out, err = run(module_home, "run", str(script), "--target", "embedded")
            assert (code, out) == (0, "here\n"), err
            pid = json.loads((state / "gateway.json").read_text())["pid"]
        target = Target("embedded", load_url(state), key_file=state / "admin.key")
        assert GatewayClient(target).list_kernels() == []
        assert json.loads((state / "gateway.json").read_text())["pid"] == pid
    finally:
        run(module_home, "gateway", "stop", "--drain", "--state-dir", str(state))


def load_url(state: Path) -> str:
    return str(json.loads((state / "gateway.json").read_text())["url"])
