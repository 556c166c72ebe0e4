"""``clouditia gateway`` and ``clouditia keys`` as an operator meets them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.http import Client

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until


def run(home: IsolatedHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clouditia.cli", *arguments],
        env=home.environment(),
        cwd=home.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    for word in words:
        assert word in done.stderr


def test_a_port_in_use_is_named_and_nothing_is_left(clouditia_home: IsolatedHome) -> None:
    state = clouditia_home.directory / "g"
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = run(clouditia_home, "gateway", "start", "--port", port, "--state-dir", str(state))
    assert_refused(done, port, "in use")
    assert not state.exists()


def test_no_address_beyond_loopback_without_tls(clouditia_home: IsolatedHome) -> None:
    state = clouditia_home.directory / "g"
    done = run(clouditia_home, "gateway", "start", "--host", "0.0.0.0", "--state-dir", str(state))
    assert_refused(done, "without TLS", "--tls-cert")
    assert not state.exists()


def test_a_state_directory_that_cannot_be_written_is_named(clouditia_home: IsolatedHome) -> None:
    (clouditia_home.directory / "file").touch()
    state = clouditia_home.directory / "file" / "g"
    done = run(clouditia_home, "gateway", "start", "--state-dir", str(state))
    assert_refused(done, str(state), "Not a directory")


def test_a_state_of_a_newer_program_is_refused(clouditia_home: IsolatedHome) -> None:
    state = clouditia_home.directory / "g"
    state.mkdir()
    with closing(sqlite3.connect(state / "gateway.sqlite3")) as db:
        db.execute("PRAGMA user_version = 999")
    done = run(clouditia_home, "gateway", "start", "--state-dir", str(state))
    assert_refused(done, "newer Clouditia", "999")


def test_stopping_what_does_not_run_says_so(clouditia_home: IsolatedHome) -> None:
    state = clouditia_home.directory / "g"
    assert_refused(run(clouditia_home, "gateway", "stop", "--state-dir", str(state)), "no gateway")


def test_a_second_gateway_on_the_state_directory_is_refused(gateway: GatewayProcess) -> None:
    done = run(gateway.home, "gateway", "start", "--state-dir", str(gateway.state_dir))
    assert_refused(done, "already runs", str(gateway.pid), gateway.url)
    assert Client(gateway.url, gateway.admin_key)("GET", "/api/kernels").status == 200


def test_one_line_on_stdout_and_the_same_port_after_a_restart(gateway: GatewayProcess) -> None:
    first = gateway.url
    assert [line for line in gateway.output.splitlines() if line.startswith("ready ")] == [
        f"ready {first}"
    ]
    assert "token" not in gateway.output
    info = gateway.info()
    assert info["url"] == info["host_url"] == first
    assert info["pid"] == gateway.pid
    assert info["tls_pin"] is None
    assert gateway.restart() == first
    assert gateway.restart(kill=True) == first
    assert gateway.state_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_gateway_keeps_its_kernels_and_the_next_one_has_them(
    gateway: GatewayProcess, number: signal.Signals
) -> None:
    client = Client(gateway.url, gateway.create_key("ada"))
    kernel_id = client("POST", "/api/kernels").json["id"]
    wait_until(lambda: state_of(client, kernel_id) == "idle", 30)
    host = json.loads(next(gateway.state_dir.glob("k/*/host.json")).read_text())
    os.kill(gateway.pid, number)
    wait_until(lambda: not gateway.is_running, 15)
    gateway.terminate()  # it has ended; this only collects what is left of it
    gateway.start()
    wait_until(lambda: state_of(client, kernel_id) == "idle", 15)
    again = json.loads(next(gateway.state_dir.glob("k/*/host.json")).read_text())
    assert again == host
    assert client("GET", f"/api/kernels/{kernel_id}").json["clouditia"]["reachable"]


def state_of(client: Client, kernel_id: str) -> str:
    answer = client("GET", f"/api/kernels/{kernel_id}")
    assert answer.status == 200, answer
    return str(answer.json["execution_state"])


def test_draining_ends_every_kernel_and_removes_its_directory(gateway: GatewayProcess) -> None:
    client = Client(gateway.url, gateway.create_key("ada"))
    for _ in range(2):
        assert client("POST", "/api/kernels").status == 201
    done = run(
        gateway.home, "gateway", "stop", "--drain", "--json", "--state-dir", str(gateway.state_dir)
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ended_kernels"] == 2
    wait_until(lambda: not gateway.is_running, 5)
    gateway.terminate()  # it has ended; this only collects what is left of it
    assert list((gateway.state_dir / "k").iterdir()) == []


def test_a_kernel_that_dies_at_start_shows_its_last_words(gateway: GatewayProcess) -> None:
    spec = gateway.home.jupyter_data_dir / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = [
        sys.executable,
        "-c",
        "import sys; sys.exit('no engine here')",
        "{connection_file}",
    ]
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Broken", "language": "python"})
    )
    client = Client(gateway.url, gateway.create_key("ada"))
    kernel_id = client("POST", "/api/kernels", {"name": "broken"}).json["id"]
    wait_until(lambda: state_of(client, kernel_id) == "dead", 20)
    end = client("GET", f"/api/kernels/{kernel_id}").json["clouditia"]["exit"]
    assert "no engine here" in end["last_stderr"]
    assert client("DELETE", f"/api/kernels/{kernel_id}").status == 204


def test_a_kernelspec_without_its_program_is_refused_before_anything_starts(
    gateway: GatewayProcess,
) -> None:
    spec = gateway.home.jupyter_data_dir / "kernels" / "gone"
    spec.mkdir(parents=True)
    spec.joinpath("kernel.json").write_text(
        json.dumps(
            {"argv": ["/opt/none/kernel", "-f", "{connection_file}"], "display_name": "Gone"}
        )
    )
    answer = Client(gateway.url, gateway.create_key("ada"))(
        "POST", "/api/kernels", {"name": "gone"}
    )
    assert answer.status == 400
    assert "cannot find or run" in answer.json["message"]
    assert "/opt" not in answer.body.decode()
    assert list((gateway.state_dir / "k").iterdir()) == []


def test_our_own_bridge_kernelspecs_are_not_offered_again(gateway: GatewayProcess) -> None:
    spec = gateway.home.jupyter_data_dir / "kernels" / "clouditia-lab-python3"
    spec.mkdir(parents=True)
    spec.joinpath("kernel.json").write_text(
        json.dumps(
            {
                "argv": ["clouditia-kernel", "-f", "{connection_file}"],
                "display_name": "x",
                "metadata": {"clouditia": {"target": "lab", "kernel": "python3"}},
            }
        )
    )
    client = Client(gateway.url, gateway.admin_key)
    assert set(client("GET", "/api/kernelspecs").json["kernelspecs"]) == {"python3"}
    assert client("POST", "/api/kernels", {"name": "clouditia-lab-python3"}).status == 404


def test_keys_are_made_listed_and_revoked_under_a_running_gateway(gateway: GatewayProcess) -> None:
    state = ("--state-dir", str(gateway.state_dir))
    made = json.loads(gateway.run("keys", "create", "--user", "ada", "--json", *state))
    client = Client(gateway.url, made["key"])
    assert client("GET", "/api/kernels").status == 200
    listed = gateway.run("keys", "list", *state)
    assert made["key_id"] in listed
    assert made["key"].split("_")[2] not in listed
    gateway.run("keys", "revoke", made["key_id"], *state)
    answer = client("GET", "/api/kernels")
    assert answer.status == 401
    assert "revoked" in answer.json["message"]


def test_every_file_of_the_state_is_private(gateway: GatewayProcess) -> None:
    Client(gateway.url, gateway.admin_key)("POST", "/api/kernels")
    for path in gateway.state_dir.rglob("*"):
        if not path.is_socket():
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_killed_host_is_a_dead_kernel_with_a_cause_and_a_restart_brings_it_back(
    gateway: GatewayProcess,
) -> None:
    client = Client(gateway.url, gateway.create_key("ada"))
    kernel_id = client("POST", "/api/kernels").json["id"]
    wait_until(lambda: state_of(client, kernel_id) == "idle", 30)
    host = json.loads(next(gateway.state_dir.glob("k/*/host.json")).read_text())
    os.kill(host["pid"], signal.SIGKILL)
    wait_until(lambda: state_of(client, kernel_id) == "dead", 5)
    model = client("GET", f"/api/kernels/{kernel_id}").json
    assert model["clouditia"]["reason"] == "the kernel host died"
    wait_until(lambda: not Path(f"/proc/{host['kernel_pid']}").exists(), 5)
    assert client("POST", f"/api/kernels/{kernel_id}/restart").status == 200
    wait_until(lambda: state_of(client, kernel_id) == "idle", 30)
    assert client("GET", f"/api/kernels/{kernel_id}").json["clouditia"]["epoch"] == 2
