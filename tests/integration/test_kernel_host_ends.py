"""What ends a kernel or its host, and what everybody is told about it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.host_harness import Client, Scene, is_alive, run, scene

from clouditia.testing.waiting import wait_until_async

SETSID_CHILD = (
    "import subprocess\n"
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "print(child.pid)"
)


def states(client: Client) -> list[tuple[int, str]]:
    """What was said about the kernel; ``ready`` is idle, or busy with what waited for it."""
    ready = {"idle": "ready", "busy": "ready"}
    said = [(item["epoch"], item["execution_state"]) for item in client.of("kernel_state")]
    return [(epoch, ready.get(state, state)) for epoch, state in said]


# --- restart ------------------------------------------------------------------------------------


def test_a_restart_request_gives_a_fresh_namespace_in_the_next_epoch(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client(start=1)
            await client.run("x = 1")
            key = json.loads((made.host.directory / "kernel.json").read_bytes())["key"]
            old_pid = made.host.host_file()["kernel_pid"]
            restart = client.send("control", "shutdown_request", {"restart": True})
            reply = await client.done(restart)
            assert (reply["status"], reply["restart"]) == ("ok", True)
            assert await client.run("print('x' in globals())") == "False\n"
            assert states(client) == [
                (1, "starting"),
                (1, "ready"),
                (1, "restarting"),
                (2, "starting"),
                (2, "ready"),
            ]
            assert json.loads((made.host.directory / "kernel.json").read_bytes())["key"] != key
            assert made.host.host_file()["kernel_pid"] != old_pid
            assert not psutil.pid_exists(old_pid)
            exited = client.of("kernel_exited")
            assert [(item["epoch"], item["expected"]) for item in exited] == [(1, True)]
            assert not list(made.host.directory.glob("s1-*"))
            assert client.text(restart, "stderr") == ""

    run(check)


def test_a_restart_answers_what_was_running_and_keeps_what_comes_meanwhile(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            code = "import time\nprint('go', flush=True)\nwhile True:\n"
            stubborn = "    try: time.sleep(60)\n    except KeyboardInterrupt: pass"
            running = client.execute(code + stubborn)
            await wait_until_async(lambda: "go" in client.text(running), 10)
            restart = asyncio.create_task(made.gateway.request("restart"))
            await client.sees("kernel_state", execution_state="restarting")
            waiting = client.execute("print('next life')")
            reply = await client.done(running)
            assert (reply["status"], reply["ename"]) == ("error", "KernelRestarted")
            await client.done(waiting)
            assert client.text(waiting) == "next life\n"
            assert (await restart)["ok"]

    run(check)


# --- crashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "cause", "fields"),
    [
        ("os._exit(3)", "exited with code 3", {"exit_code": 3, "signal": None}),
        ("os.kill(os.getpid(), 9)", "SIGKILL", {"exit_code": None, "signal": "SIGKILL"}),
    ],
)
def test_a_crash_answers_the_cell_with_its_cause_and_a_restart_goes_on(
    tmp_path: Path, how: str, cause: str, fields: dict[str, Any]
) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            await client.run("x = 1")
            code = (
                "import os\nos.write(2, b'last words\\n')\nprint('before', flush=True)\n"
                f"import time; time.sleep(0.3)\n{how}"
            )
            crashing, queued = client.execute(code), client.execute("print(x)")
            reply = await client.done(crashing)
            assert client.text(crashing) == "before\n"
            assert reply["ename"] == "KernelDied"
            assert cause in reply["evalue"]
            assert any("last words" in line for line in reply["traceback"])
            assert client.of("error", crashing)[0]["evalue"] == reply["evalue"]
            assert (await client.done(queued))["ename"] == "KernelDied"
            exited = await client.sees("kernel_exited", expected=False, **fields)
            assert "last words" in exited["last_stderr"]
            await wait_until_async(lambda: made.gateway.state["execution_state"] == "dead", 3)
            assert made.gateway.state["exit"]["exit_code"] == fields["exit_code"]
            await _a_dead_kernel_says_so(client)
            assert (await made.gateway.request("restart"))["ok"]
            msg_id = client.execute("print('x' in globals())")
            await client.done(msg_id)
            assert client.text(msg_id) == "False\n"
            assert cause in client.text(msg_id, "stderr")
            assert "variables are gone" in client.text(msg_id, "stderr")
            assert client.text(client.execute("1"), "stderr") == ""

    run(check)


async def _a_dead_kernel_says_so(client: Client) -> None:
    for channel, msg_type in (("shell", "kernel_info_request"), ("control", "interrupt_request")):
        reply = await client.done(client.send(channel, msg_type, {}), 3)
        assert reply["status"] == "error"
        assert "restart" in reply["evalue"]


def test_a_kernel_killed_from_outside_is_noticed_within_3_seconds(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            msg_id = client.execute("print('go', flush=True)\nimport time; time.sleep(60)")
            await wait_until_async(lambda: "go" in client.text(msg_id), 10)
            began = time.monotonic()
            os.kill(made.host.host_file()["kernel_pid"], signal.SIGKILL)
            assert "SIGKILL" in (await client.done(msg_id))["evalue"]
            assert time.monotonic() - began < 3
            assert is_alive(psutil.Process(made.host.pid))

    run(check)


def test_a_dead_kernel_restarts_on_a_shutdown_request_with_restart(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            await client.done(client.execute("import os; os._exit(1)"))
            await client.sees("kernel_state", execution_state="dead")
            restart = client.send("control", "shutdown_request", {"restart": True})
            assert (await client.done(restart))["restart"] is True
            assert await client.run("print(2)") == "2\n"

    run(check)


# --- kernels that never start -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"argv": ["/no/such/program"]}, "/no/such/program"),
        ({"cwd": "/no/such/directory"}, "/no/such/directory"),
        ({"argv": ["python", "-c", "raise SystemExit('no module named kernel')"]}, "no module"),
    ],
    ids=["no program", "no directory", "dies at once"],
)
def test_a_kernel_that_cannot_start_says_why(
    tmp_path: Path, launch: dict[str, Any], said: str
) -> None:
    async def check() -> None:
        async with scene(tmp_path, **launch) as made:
            client = await made.client(start=1)
            state = await client.sees("kernel_state", execution_state="dead")
            exited = client.of("kernel_exited")[0]
            assert said in state["reason"] + exited["last_stderr"]
            reply = await client.done(client.execute("1"))
            assert said in reply["evalue"] + "".join(reply["traceback"])
            refused = await made.gateway.request("restart")
            if "argv" not in launch or len(launch["argv"]) == 1:
                assert not refused["ok"]
                assert said in refused["error"]["message"]
            assert is_alive(psutil.Process(made.host.pid))

    run(check)


# --- shutdown -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["gateway", "client", "command", "SIGTERM"])
def test_a_shutdown_ends_kernel_children_and_host(tmp_path: Path, way: str) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            child = psutil.Process(int(await client.run(SETSID_CHILD)))
            tree = made.host.tree()
            if way == "gateway":
                assert (await made.gateway.request("shutdown"))["ok"]
            elif way == "client":
                msg_id = client.send("control", "shutdown_request", {"restart": False})
                assert (await client.done(msg_id))["restart"] is False
            elif way == "command":
                client.command("shutdown")
                assert (await client.sees("command_reply"))["ok"]
            else:
                os.kill(made.host.pid, signal.SIGTERM)
            await client.sees("kernel_ended")
            assert await made.host.exited() == 0
            assert not any(map(is_alive, [child, *tree]))
            assert (made.gateway.state["execution_state"], made.gateway.state["reason"]) == (
                "dead",
                "ended",
            )

    run(check)


def test_sigint_does_nothing_to_the_host(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            os.kill(made.host.pid, signal.SIGINT)
            assert await client.run("print(1)") == "1\n"

    run(check)


# --- kill -9 of each process --------------------------------------------------------------------


async def _busy_with_child(made: Scene) -> tuple[Client, str, psutil.Process]:
    client = await made.client()
    child = psutil.Process(int(await client.run(SETSID_CHILD)))
    msg_id = client.execute("print('go', flush=True)\nimport time; time.sleep(60)")
    await wait_until_async(lambda: "go" in client.text(msg_id), 10)
    return client, msg_id, child


def test_kill_9_of_the_host_ends_kernel_and_children_within_2_seconds(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            _, _, child = await _busy_with_child(made)
            tree = made.host.tree()
            os.kill(made.host.pid, signal.SIGKILL)
            await wait_until_async(
                lambda: not any(map(is_alive, [child, *tree])), 2, what="no orphan is left"
            )

    run(check)


def test_kill_9_of_the_keeper_is_a_kernel_death_and_a_restart_works(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client, msg_id, child = await _busy_with_child(made)
            (keeper,) = psutil.Process(made.host.pid).children()
            keeper.kill()
            assert "keeper" in (await client.done(msg_id, 3))["evalue"]
            await wait_until_async(lambda: not is_alive(child), 2, what="no orphan is left")
            assert (await made.gateway.request("restart"))["ok"]
            assert await client.run("print(3)") == "3\n"
            assert (await made.gateway.request("shutdown"))["ok"]
            assert await made.host.exited() == 0

    run(check)


def test_a_second_host_serves_the_journal_of_a_dead_one(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client, msg_id, _ = await _busy_with_child(made)
            await asyncio.to_thread(made.host.kill)
            made.host.start(fence=2)
            await wait_until_async(lambda: len(made.gateway.hellos) == 2, 10)
            await client.connect()
            reply = await client.done(msg_id)
            assert "kernel host died" in reply["evalue"]
            assert client.text(msg_id) == "go\n"
            hello = made.gateway.hellos[1]
            assert (hello["fence"], hello["state"]["execution_state"]) == (2, "dead")
            assert hello["state"]["exit"]["reason"] == "kernel host died"
            late = await made.client("late", start=1)
            assert late.text(msg_id) == "go\n" or await late.done(msg_id)
            again = client.execute("print(1)", msg_id=msg_id)
            assert await client.sees("known_request", msg_id=again)
            assert (await made.gateway.request("restart"))["ok"]
            fresh = client.execute("print('up again')")
            await client.done(fresh)
            assert client.text(fresh) == "up again\n"
            assert "kernel host died" in client.text(fresh, "stderr")
            assert states(client)[-2:] == [(2, "starting"), (2, "ready")]

    run(check)


def test_a_second_host_on_a_served_directory_leaves_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            first = made.host.process
            second = made.host.start().process
            assert second is not None
            code = await asyncio.to_thread(made.host.wait_exit)
            made.host.process = first
            assert code == 2
            assert "another kernel host" in made.host.log
            assert await client.run("print(1)") == "1\n"

    run(check)


# --- nobody wants the host any more -------------------------------------------------------------


def test_the_host_ends_when_its_directory_is_gone(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            child = psutil.Process(int(await client.run(SETSID_CHILD)))
            tree = made.host.tree()
            shutil.rmtree(made.host.directory)
            await wait_until_async(lambda: not any(map(is_alive, [child, *tree])), 6)
            made.host.directory.mkdir()
            (made.host.directory / "host.log").touch()
            await made.host.exited()

    run(check)


@pytest.mark.parametrize("code", [4404, 4409])
def test_a_dismissed_host_ends_with_its_kernel(tmp_path: Path, code: int) -> None:
    async def check() -> None:
        async with scene(tmp_path, start=False) as made:
            made.gateway.refuse_with = code
            made.host.start()
            await made.host.exited()
            assert "dismissed" in made.host.log

    run(check)


def test_a_host_with_a_refused_token_keeps_its_kernel_and_tries_again(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path, start=False) as made:
            made.gateway.refuse_with = 4401
            made.host.start()
            await wait_until_async(lambda: len(made.gateway.hellos) >= 3, 10)
            made.gateway.refuse_with = None
            client = await made.client()
            assert await client.run("print(1)") == "1\n"

    run(check)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "launch format None"), ("nonsense", "Expecting value"), ("[]", "not a JSON object")],
)
def test_a_launch_file_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    import subprocess
    import sys

    launch = tmp_path / "launch.json"
    launch.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "clouditia_gateway.host", str(launch)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- the disk -----------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_survived_without_a_loss(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client(start=1)
            await client.run("print('x' * 20000)")
            limits = resource.prlimit(made.host.pid, resource.RLIMIT_FSIZE)
            # The limit is for each file: so small that no new segment can take a record either.
            resource.prlimit(made.host.pid, resource.RLIMIT_FSIZE, (100, limits[1]))
            msg_id = client.execute("for i in range(500): print(i, flush=True)")
            await client.done(msg_id)
            assert client.text(msg_id) == "".join(f"{i}\n" for i in range(500))
            said = [item["reason"] for item in client.of("kernel_state")]
            assert any("cannot be written" in reason for reason in said)
            late = await made.client("late", start=1)
            await late.done(msg_id)
            assert late.text(msg_id) == client.text(msg_id)
            resource.prlimit(made.host.pid, resource.RLIMIT_FSIZE, limits)
            await client.sees("kernel_state", reason="the journal can be written again")
            await asyncio.to_thread(made.host.kill)
            made.host.start(fence=2)
            reader = await made.client("reader", start=1)
            await reader.done(msg_id)
            assert reader.text(msg_id) == client.text(msg_id)
            assert reader.gaps == []

    run(check)
