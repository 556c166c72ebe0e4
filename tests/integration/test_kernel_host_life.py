"""A kernel host's main job: one kernel, its clients, and a gateway that comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.host_harness import BASH_ARGV, Scene, run, scene

from clouditia.errors import SessionError
from clouditia.testing.waiting import wait_until_async


def test_a_cell_runs_and_its_output_reply_and_idle_arrive(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            assert await client.run("x = 41; print(x + 1)") == "42\n"
            assert await client.run("print(x)") == "41\n"
            assert made.gateway.tokens[0] == "Bearer host-token"
            assert made.gateway.hellos[0]["fence"] == 1
            assert made.host.host_file()["kernel_pid"] == made.gateway.state["pid"]
            assert client.welcome.kernel_id == made.host.kernel_id

    run(check)


def test_2000_flushed_lines_arrive_in_order(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            printed = await client.run(
                "for i in range(2000):\n    print(i, flush=True)", timeout_s=60
            )
            assert printed == "".join(f"{i}\n" for i in range(2000))
            assert client.seqs == list(range(client.seqs[0], client.seqs[0] + len(client.seqs)))

    run(check)


def test_a_kernel_drops_no_output_however_much_waits_and_shows_no_trace_of_that(
    tmp_path: Path,
) -> None:
    limit = (
        "import zmq; print(get_ipython().kernel.iopub_thread.socket.get(zmq.SNDHWM), "
        "[name for name in globals() if name in ('thread', 'exec')])"
    )

    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            assert await client.run(limit) == "0 []\n"
            assert [each["execution_count"] for each in client.of("execute_input")] == [1]
            client.command("restart")
            await client.sees("kernel_state", epoch=2, execution_state="idle")
            assert await client.run(limit) == "0 []\n"

    run(check)


def test_cut_connections_resume_in_the_middle_of_output_exactly_once(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            msg_id = client.execute(
                "import time\nfor i in range(300):\n    print(i, flush=True); time.sleep(0.005)"
            )
            for seen in ("20\n", "120\n"):
                await wait_until_async(lambda seen=seen: seen in client.text(msg_id), 20)  # type: ignore[misc]
                await client.cut()
                await client.connect()
            await client.done(msg_id)
            assert client.text(msg_id) == "".join(f"{i}\n" for i in range(300))
            assert client.gaps == []

    run(check)


def test_the_kernel_goes_on_while_the_gateway_is_away(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            await client.run("x = 1")
            msg_id = client.execute(
                "import time\nfor i in range(50):\n    print(i, flush=True); time.sleep(0.01)"
            )
            await wait_until_async(lambda: "5\n" in client.text(msg_id), 10)
            await made.gateway.stop()
            await made.gateway.start()
            await client.connect()
            await client.done(msg_id)
            assert client.text(msg_id) == "".join(f"{i}\n" for i in range(50))
            assert await client.run("print(x)") == "1\n"
            assert len(made.gateway.hellos) == 2

    run(check)


def test_a_request_sent_twice_runs_once_and_its_messages_are_named(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            first = await made.client("first")
            await first.run("n = 0")
            msg_id = first.execute("n += 1; print(n)")
            await first.done(msg_id)
            second = await made.client("second", start="latest")
            second.execute("n += 1; print(n)", msg_id=msg_id)
            known = await second.sees("known_request", msg_id=msg_id)
            assert known["first"] <= known["last"] < second.seqs[0]
            assert await second.run("print(n)") == "1\n"

    run(check)


def test_two_clients_see_the_same_messages(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            one = await made.client("one", start=1)
            two = await made.client("two", start=1)
            msg_id = one.execute("print('hello')")
            await two.done(msg_id)
            await one.done(msg_id)
            assert one.text(msg_id) == two.text(msg_id) == "hello\n"
            await wait_until_async(lambda: made.gateway.state["connections"] == 2, 5)

    run(check)


def test_a_second_connection_of_a_client_takes_over(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            old = await made.client("same")
            new = await made.client("same")
            await wait_until_async(lambda: old.ended is not None, 5)
            assert isinstance(old.ended, SessionError)
            assert await new.run("print(1)") == "1\n"

    run(check)


def test_input_is_asked_of_the_client_and_answered(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            content = {"code": "print(input('name? '))", "silent": False, "allow_stdin": True}
            msg_id = client.send("shell", "execute_request", content)
            asked = await client.sees("input_request")
            assert asked["prompt"] == "name? "
            client.send("stdin", "input_reply", {"value": "Ada"})
            await client.done(msg_id)
            assert client.text(msg_id) == "Ada\n"

    run(check)


@pytest.mark.parametrize("interrupt_mode", ["signal", "message"])
@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: pass"])
def test_interrupts_reach_sleeping_and_busy_cells(
    tmp_path: Path, code: str, interrupt_mode: str
) -> None:
    async def check() -> None:
        async with scene(tmp_path, interrupt_mode=interrupt_mode) as made:
            client = await made.client()
            await client.run("x = 7")
            msg_id = client.execute(f"print('go', flush=True)\n{code}")
            await wait_until_async(lambda: "go" in client.text(msg_id), 10)
            interrupt = client.send("control", "interrupt_request", {})
            reply = await client.done(msg_id)
            assert reply["ename"] == "KeyboardInterrupt"
            assert (await client.done(interrupt))["status"] == "ok"
            assert await client.run("print(x)") == "7\n"

    run(check)


def test_the_gateway_can_interrupt(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            msg_id = client.execute("print('go', flush=True)\nimport time; time.sleep(60)")
            await wait_until_async(lambda: "go" in client.text(msg_id), 10)
            await wait_until_async(lambda: made.gateway.state["execution_state"] == "busy", 5)
            assert (await made.gateway.request("interrupt"))["ok"]
            assert (await client.done(msg_id))["ename"] == "KeyboardInterrupt"
            await wait_until_async(lambda: made.gateway.state["execution_state"] == "idle", 5)

    run(check)


def test_an_unknown_command_is_refused_in_a_sentence(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            client.command("dance")
            reply = await client.sees("command_reply", id="c1")
            assert not reply["ok"]
            assert "dance" in reply["error"]["message"]
            refused = await made.gateway.request("dance")
            assert refused["error"]["code"] == "config"

    run(check)


@pytest.mark.parametrize(
    "launch",
    [{"argv": BASH_ARGV, "kernel_name": "bash"}, {"argv": BASH_ARGV, "supports_ipc": False}],
    ids=["ipc", "tcp"],
)
def test_a_kernel_that_is_not_ipykernel_works(tmp_path: Path, launch: dict[str, Any]) -> None:
    async def check() -> None:
        async with scene(tmp_path, **launch) as made:
            client = await made.client()
            assert "hello 3" in await client.run("echo hello $((1+2))")
            assert (await made.gateway.request("restart"))["ok"]
            assert "again" in await client.run("echo again")

    run(check)


def test_a_directory_too_deep_for_sockets_is_served_from_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)

    async def check() -> None:
        async with scene(deep) as made:
            client = await made.client()
            assert await client.run("print('deep')") == "deep\n"
            sockets = Path(_ip_of(made)).parent
            assert sockets.stat().st_mode & 0o777 == 0o700
            assert (await made.gateway.request("shutdown"))["ok"]
            await made.host.exited()
            assert not sockets.exists()

    run(check)


def _ip_of(made: Scene) -> str:
    import json

    return str(json.loads((made.host.directory / "kernel.json").read_bytes())["ip"])


def test_secrets_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            client = await made.client()
            await client.run("1")
            for name in ("kernel.json", "host.json", "host.lock"):
                assert (made.host.directory / name).stat().st_mode & 0o777 == 0o600
            assert (made.host.directory / "journal").stat().st_mode & 0o777 == 0o700
            assert "host-token" not in made.host.log

    run(check)


def test_hello_for_another_kernel_and_nonsense_are_refused(tmp_path: Path) -> None:
    async def check() -> None:
        async with scene(tmp_path) as made:
            transport = await made.gateway.open()
            await transport.send([b"\x63nonsense"])
            assert (await transport.receive())[0] == 8  # CLOSE
            client = await made.client()
            client.send("iopub", "status", {"execution_state": "idle"})
            async with asyncio.timeout(10):
                await wait_until_async(lambda: client.ended is not None, 5)
            assert "iopub" in client.ended.message
            other = await made.client("other")
            assert await other.run("print(1)") == "1\n"

    run(check)
