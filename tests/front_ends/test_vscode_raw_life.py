"""How a kernel ends that VS Code runs as a local one: closed, restarted, crashed, refused.

Each notebook here has a kernel of its own; what it leaves behind is looked for on the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.front_ends.node_harness import HarnessError, VsCodeRaw, VsCodeServer
from tests.front_ends.vscode_cells import BLOCKERS, STATE_S, kernel_ids, revoke

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import command_line, kill_9, processes_under
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until


@pytest.fixture(scope="module")
def rest(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


@pytest.fixture(scope="module")
def window(module_target: LoggedInTarget) -> Iterator[VsCodeRaw]:
    with VsCodeRaw(module_target.kernel_name(), module_target.gateway.home) as window:
        yield window


def bridges(home: IsolatedHome) -> list[int]:
    """Pids of the local kernel processes."""
    found = processes_under(home.directory)
    return [each.pid for each in found if "clouditia-kernel " in f"{command_line(each)} "]


def test_closing_the_notebook_ends_the_remote_kernel_even_if_it_is_busy(
    window: VsCodeRaw, rest: GatewayClient
) -> None:
    before = kernel_ids(rest)
    kernel = window.open_notebook()
    facts = window.process(kernel)
    connection_file = Path(facts["connection_file"])
    ports = [value for name, value in facts["connection_info"].items() if name.endswith("_port")]
    assert connection_file.stat().st_size
    assert len(set(ports)) == 5
    kernel.printed(kernel.execute(BLOCKERS["a busy loop"]), "on")
    assert len(kernel_ids(rest)) == len(before) + 1
    ended = window.close(kernel)
    assert (ended["exit_code"], ended["stderr"]) == (0, "")
    assert not connection_file.exists()
    wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="its kernel is gone")


def test_with_detach_closing_the_notebook_keeps_the_kernel_for_the_other_way_in(
    window: VsCodeRaw, module_gateway: GatewayProcess
) -> None:
    target = log_in(module_gateway, name="kept", user="bea", options=("--on-close", "detach"))
    rest = GatewayClient(load_target("kept"))
    kernel = window.open_notebook(target.kernel_name())
    (kernel_id,) = kernel_ids(rest)
    kernel.run("kept = 'still here'")
    assert window.close(kernel)["exit_code"] == 0
    assert kernel_ids(rest) == {kernel_id}
    with VsCodeServer(module_gateway.url, target.key) as other:
        other.connect()
        again = other.attach(kernel_id)
        assert again.run("print(kept)").text() == "still here\n"
        again.call("server_close")
    rest.shutdown(kernel_id)


def test_a_window_that_crashes_lets_go_of_its_kernel(
    module_target: LoggedInTarget, rest: GatewayClient
) -> None:
    before = kernel_ids(rest)
    with VsCodeRaw(module_target.kernel_name(), module_target.gateway.home) as doomed:
        kernel = doomed.open_notebook()
        bridge = doomed.process(kernel)["pid"]
        doomed.kill()
    wait_until(lambda: not Path(f"/proc/{bridge}").exists(), STATE_S, what="the bridge is gone")
    (kept,) = kernel_ids(rest) - before
    rest.shutdown(kept)


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_restarts_in_a_row_leave_one_kernel_and_no_process(
    window: VsCodeRaw, module_target: LoggedInTarget, rest: GatewayClient, times: int
) -> None:
    """Each new process starts while the old one is dying, on new ports and under a new key."""
    home = module_target.gateway.home
    before, bridges_before = kernel_ids(rest), set(bridges(home))
    kernel = window.open_notebook()
    seen, keys = {kernel.run("import os\ngone = 1\nprint(os.getpid())").text()}, set()
    for _ in range(times):
        facts = window.restart(kernel)
        keys.add(facts["connection_info"]["key"])
        ran = kernel.run("import os\nprint('gone' in globals())\nprint(os.getpid())\ngone = 1")
        is_kept, pid = ran.text().splitlines()
        assert is_kept == "False"
        seen.add(pid)
    assert (len(keys), len(seen)) == (times, times + 1)
    wait_until(lambda: len(kernel_ids(rest) - before) == 1, STATE_S, what="one kernel is left")
    wait_until(
        lambda: len(set(bridges(home)) - bridges_before) == 1, STATE_S, what="one bridge is left"
    )
    assert kernel.run("print('gone' in globals())").text() == "True\n"
    window.close(kernel)
    wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="the last kernel is gone")


def test_restarting_a_busy_cell_ends_it_and_the_next_one_runs(
    window: VsCodeRaw, rest: GatewayClient
) -> None:
    before = kernel_ids(rest)
    kernel = window.open_notebook()
    msg_id = kernel.execute(BLOCKERS["a sleep"])
    kernel.printed(msg_id, "on")
    window.restart(kernel)
    assert "Canceled" in kernel.settled(msg_id)
    assert kernel.run("print('fresh')").text() == "fresh\n"
    window.close(kernel)
    wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="both kernels are gone")


def test_a_kernel_that_dies_says_why_and_restarting_helps(
    window: VsCodeRaw, rest: GatewayClient
) -> None:
    before = kernel_ids(rest)
    kernel = window.open_notebook()
    ran = kernel.result(kernel.execute("import os\nos._exit(3)"))
    assert ran.reply.content["ename"] == "KernelDied"
    assert "exited with code 3" in ran.of("error")[0]["evalue"]
    kernel.client.wait(lambda: kernel.exits, "the end of the kernel process")
    assert kernel.exits[0]["exit_code"] != 0
    window.restart(kernel)
    assert kernel.run("print('fresh')").text() == "fresh\n"
    window.close(kernel)
    wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="both kernels are gone")


# --- what cannot start, and what loses its right to ---------------------------------------------


def test_an_unknown_target_is_one_clear_line(
    window: VsCodeRaw, module_target: LoggedInTarget
) -> None:
    (folder,) = module_target.kernelspec_dirs
    spec = json.loads((folder / "kernel.json").read_text())
    spec["argv"][spec["argv"].index("--target") + 1] = "nowhere"
    other = folder.with_name("nowhere")
    other.mkdir()
    (other / "kernel.json").write_text(json.dumps(spec | {"display_name": "nowhere"}))
    with pytest.raises(HarnessError) as refused:
        window.open_notebook("nowhere")
    (line,) = refused.value.details["stderr"].splitlines()
    assert refused.value.details["exit_code"] == 2
    assert "nowhere" in line
    assert "clouditia login" in line
    assert not Path(refused.value.details["connection_file"]).exists()


def test_a_gateway_that_is_away_at_the_start_is_one_clear_line(
    window: VsCodeRaw, module_gateway: GatewayProcess
) -> None:
    port = int(module_gateway.url.rsplit(":", 1)[1].rstrip("/"))
    with ChaosProxy("127.0.0.1", port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        target = log_in(module_gateway, name="away", user="eve", url=url)
        proxy.cut()
        with pytest.raises(HarnessError) as refused:
            window.open_notebook(target.kernel_name())
    (line,) = refused.value.details["stderr"].splitlines()
    assert refused.value.details["exit_code"] == 6
    assert url in line


def test_a_revoked_key_is_one_clear_line(window: VsCodeRaw, module_gateway: GatewayProcess) -> None:
    target = log_in(module_gateway, name="former", user="cyd")
    revoke(module_gateway, target.key)
    with pytest.raises(HarnessError) as refused:
        window.open_notebook(target.kernel_name())
    (line,) = refused.value.details["stderr"].splitlines()
    assert refused.value.details["exit_code"] == 3
    assert "revoked" in line
    assert target.key not in line


def test_a_key_that_is_revoked_while_the_notebook_is_open_ends_the_kernel_process(
    window: VsCodeRaw, module_gateway: GatewayProcess
) -> None:
    target = log_in(module_gateway, name="leaver", user="dan")
    kernel = window.open_notebook(target.kernel_name())
    revoke(module_gateway, target.key)
    kernel.client.wait(lambda: kernel.exits, "the end of the kernel process")
    (line,) = kernel.exits[0]["stderr"].splitlines()
    assert kernel.exits[0]["exit_code"] == 3
    assert "revoked" in line
    # The kernel is Dan's, whatever key he has.
    rest = GatewayClient(load_target("leaver"), key=module_gateway.create_key("dan"))
    (kept,) = kernel_ids(rest)
    rest.shutdown(kept)


def test_a_bridge_that_is_killed_is_seen_as_a_dead_kernel_and_restarting_helps(
    window: VsCodeRaw, rest: GatewayClient
) -> None:
    before = kernel_ids(rest)
    kernel = window.open_notebook()
    (orphan,) = kernel_ids(rest) - before
    kill_9(window.process(kernel)["pid"])
    kernel.client.wait(lambda: kernel.exits, "the end of the kernel process")
    window.restart(kernel)
    assert kernel.run("print('fresh')").text() == "fresh\n"
    assert orphan in kernel_ids(rest)  # a bridge that is killed lets go; nothing is lost
    rest.shutdown(orphan)
    window.close(kernel)
    wait_until(lambda: kernel_ids(rest) == before, STATE_S, what="its kernel is gone")
