"""Bad input as a user meets it: a sentence with the next step, an exit code, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from clouditia.protocol.handshake import STOCK_SUBPROTOCOL, SUBPROTOCOL, Hello
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
#: Of the right form, but nobody's.
WRONG_KEY = "ck_0123456789ab_" + "0" * 64


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    """The user's view of the gateway; a test that leaves a kernel on it fails."""
    client = GatewayClient(load_target(module_target.name))
    yield client
    left = client.list_kernels()
    for kernel in left:
        client.shutdown(kernel["id"])
    assert left == []


def start(home: IsolatedHome, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "clouditia.cli", *arguments],
        env=home.environment() | variables,
        cwd=home.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(home: IsolatedHome, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and words of a command that prints no data, no traceback, and leaves no file."""
    before = files(home)
    with start(home, *arguments, **variables) as process:
        try:
            out, err = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert out == ""
    assert "Traceback" not in err
    assert "internal error" not in err
    assert files(home) == before
    return process.returncode, err


def files(home: IsolatedHome) -> set[Path]:
    """What a command could have left half-written."""
    places = (home.config_dir, home.runtime_dir, home.jupyter_data_dir)
    return {path for place in places for path in place.rglob("*")} | set(home.directory.glob("*"))


def script(home: IsolatedHome, code: str = "print(1)\n") -> str:
    path = home.directory / "a.py"
    path.write_text(code)
    return str(path)


def write_spec(home: IsolatedHome, name: str, *argv: str) -> None:
    directory = home.jupyter_data_dir / "kernels" / name
    directory.mkdir(parents=True, exist_ok=True)
    spec = {"argv": [*argv, "{connection_file}"], "display_name": name, "language": "python"}
    directory.joinpath("kernel.json").write_text(json.dumps(spec))


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


# --- targets and keys ---------------------------------------------------------------------------


def test_an_unknown_target_names_the_known_ones_and_the_next_step(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    code, err = refused(module_home, "run", script(module_home), "--target", "nowhere")
    assert code == 2
    assert "no target 'nowhere' (known: lab" in err
    assert "clouditia login URL --name nowhere" in err


@pytest.mark.parametrize(
    ("key", "words"), [("sk-other-product-123", "keys start with ck_"), (WRONG_KEY, "this key")]
)
def test_login_with_a_wrong_key_saves_nothing(
    module_home: IsolatedHome, module_target: LoggedInTarget, key: str, words: str
) -> None:
    path = module_home.directory / "wrong.key"
    path.write_text(key + "\n")
    path.chmod(0o600)
    url = module_target.gateway.url
    code, err = refused(module_home, "login", url, "--name", "other", "--key-file", str(path))
    assert code == 3
    assert words in err
    assert "clouditia keys create --user NAME" in err
    assert key not in err


def test_a_run_with_an_unknown_key_starts_no_kernel(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    variables = {"CLOUDITIA_GATEWAY": module_target.gateway.url, "CLOUDITIA_API_KEY": WRONG_KEY}
    code, err = refused(module_home, "run", script(module_home), **variables)
    assert code == 3
    assert "clouditia keys create --user NAME" in err
    assert WRONG_KEY not in err


@pytest.mark.parametrize("command", [("run",), ("kernels", "list")], ids=lambda words: words[0])
def test_an_unreachable_gateway_is_named_with_what_was_tried(
    clouditia_home: IsolatedHome, command: tuple[str, ...]
) -> None:
    url = closed_port()
    arguments = [*command, script(clouditia_home)] if command == ("run",) else [*command]
    variables = {"CLOUDITIA_GATEWAY": url, "CLOUDITIA_API_KEY": WRONG_KEY}
    code, err = refused(clouditia_home, *arguments, **variables)
    assert code == 6
    assert url in err
    assert "refused" in err


def test_a_key_revoked_while_a_cell_runs_ends_the_run_and_says_so(gateway: GatewayProcess) -> None:
    target = log_in(gateway)
    running = script(gateway.home, "print('on', flush=True)\nwhile True: pass\n")
    with start(gateway.home, "run", running) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        state = ("--state-dir", str(gateway.state_dir))
        gateway.run("keys", "revoke", target.key.split("_")[1], *state)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (5, ""), err
    assert "Traceback" not in err
    assert "clouditia: the connection was closed with code 4401: this key was revoked" in err
    wait_until(lambda: not list(gateway.home.runtime_dir.iterdir()), WAIT_S)
    code, err = refused(gateway.home, "run", running)
    assert code == 3
    assert "this key was revoked. Ask for a key" in err


# --- kernels that cannot start ------------------------------------------------------------------


def test_a_kernelspec_without_its_program_says_which(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    write_spec(module_home, "gone", "/opt/none/kernel", "-f")
    code, err = refused(module_home, "run", script(module_home), "--kernel", "gone")
    assert code == 2
    assert "'gone' names the program 'kernel', which the gateway cannot find or run. " in err
    assert "Install that kernel again" in err


def test_a_kernel_that_dies_at_its_start_shows_its_last_words(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    write_spec(module_home, "words", sys.executable, "-c", "import sys; sys.exit('no engine')")
    code, err = refused(module_home, "run", script(module_home), "--kernel", "words")
    assert code == 5
    assert "no engine\n" in err
    assert "the kernel did not get ready: the kernel died: the kernel exited with code 1" in err
    directory = module_target.gateway.state_dir / "k"
    wait_until(lambda: not list(directory.iterdir()), WAIT_S)


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_gateway(module_home: IsolatedHome) -> Iterator[tuple[GatewayProcess, Path]]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    home = module_home.directory
    key, certificate = home / "key.pem", home / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    made = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *made], check=True, capture_output=True)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with GatewayProcess(module_home, state_dir=home / "t", options=options) as gateway:
        yield gateway, certificate


@pytest.mark.parametrize("pin", ["", "00" * 32], ids=["no pin", "wrong pin"])
def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls_gateway: tuple[GatewayProcess, Path], pin: str
) -> None:
    gateway, _ = tls_gateway
    path = gateway.home.directory / "bad.key"
    path.write_text(WRONG_KEY)
    path.chmod(0o600)
    options = ["--pin", pin] if pin else []
    arguments = ["login", gateway.url, "--name", "bad", "--key-file", str(path), *options]
    code, err = refused(gateway.home, *arguments)
    assert code == 2
    assert "certificate" in err
    assert "--pin" in err


@pytest.mark.parametrize("way", ["--pin", "--ca-file"])
def test_the_right_pin_and_the_right_ca_file_run_a_kernel(
    tls_gateway: tuple[GatewayProcess, Path], way: str
) -> None:
    gateway, certificate = tls_gateway
    value = str(gateway.info()["tls_pin"]) if way == "--pin" else str(certificate)
    target = log_in(gateway, name=way.strip("-"), options=(way, value))
    arguments = ["run", script(gateway.home, "print(6 * 7)\n"), "--target", target.name]
    with start(gateway.home, *arguments) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, "42\n"), err


# --- frames -------------------------------------------------------------------------------------

COUNT = (2**63 - 1).to_bytes(8, "little")
FORGED: dict[str, list[bytes | str]] = {
    SUBPROTOCOL: [
        b"",
        b"\xff" * 64,
        bytes([3]) + b"\xff" * 27,
        bytes([1]) + b'{"client_id": "' + b"x" * 100_000 + b'"}',
        Hello("c", kernel_id="of somebody else").encode(),
    ],
    STOCK_SUBPROTOCOL: [
        b"",
        (2**24).to_bytes(8, "little"),
        COUNT,
        COUNT * 8,
        (6).to_bytes(8, "little") + COUNT * 6,
    ],
    "": [b"", b"\xff" * 8, (2**31).to_bytes(4, "big") * 16, "{", '{"header": 1}', "[" * 100_000],
}


def is_closed_by_peer(connection: ClientConnection) -> bool:
    """Read to the end of it."""
    try:
        while True:
            connection.recv(timeout=WAIT_S)
    except ConnectionClosed:
        return True


@pytest.mark.parametrize("subprotocol", list(FORGED), ids=lambda name: name or "legacy")
def test_forged_frames_are_refused_and_cost_the_gateway_no_memory(
    module_target: LoggedInTarget, remote: GatewayClient, subprotocol: str
) -> None:
    gateway = module_target.gateway
    kernel_id = remote.start_kernel("python3", env={}, path="")["id"]
    url = f"ws{gateway.url[4:]}/api/kernels/{kernel_id}/channels"
    offered = [Subprotocol(subprotocol)] if subprotocol else None
    before = psutil.Process(gateway.pid).memory_info().rss
    for frame in FORGED[subprotocol] * 3:
        with connect(
            url,
            subprotocols=offered,
            additional_headers={"Authorization": f"token {module_target.key}"},
        ) as connection:
            connection.send(frame)
            assert is_closed_by_peer(connection)
    assert psutil.Process(gateway.pid).memory_info().rss - before < 16 * 1024 * 1024
    wait_until(lambda: remote.get_kernel(kernel_id)["execution_state"] == "idle", WAIT_S)
    remote.shutdown(kernel_id)


# --- gateways -----------------------------------------------------------------------------------


def test_a_state_directory_in_a_read_only_place_is_named(clouditia_home: IsolatedHome) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("no /proc: a place where even root cannot write is not known")
    code, err = refused(clouditia_home, "gateway", "start", "--state-dir", "/proc/g")
    assert code == 2
    assert "the state directory /proc/g cannot be used" in err
    assert "--state-dir" in err


def test_nothing_of_a_refused_gateway_keeps_running(clouditia_home: IsolatedHome) -> None:
    state = clouditia_home.directory / "g"
    state.touch()
    code, err = refused(clouditia_home, "gateway", "start", "--state-dir", str(state))
    assert code == 2
    assert str(state) in err
    assert state.read_bytes() == b""
    own = os.getpid()
    assert [found for found in processes_under(state) if found.pid != own] == []
