"""Clients, hosts and gateways of other versions: served, or refused in one sentence."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import sysconfig
import tarfile

import pytest
from tests.integration.front_end import connected, started
from tests.integration.links import BareLink
from tests.integration.stock_front_end import stock_front_end
from tests.needs import ROOT

from clouditia.errors import VersionMismatch
from clouditia.protocol.handshake import Hello, Welcome
from clouditia.protocol.link import Failed, Link, Role
from clouditia.protocol.outbox import Outbox
from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import command_line, find_process
from clouditia.testing.targets import LoggedInTarget, log_in

#: A version of this repository from before the kernelspecs of running kernels, widgets in one
#: session, and sockets that are handed over.
OLDER = "3e7344a"
RUN_S = 120.0


@pytest.mark.parametrize(
    ("protocol", "advice"), [((7, 9), "update the gateway side"), ((0, 0), "update the client")]
)
def test_a_client_of_another_protocol_is_refused_in_one_sentence(
    module_target: LoggedInTarget, protocol: tuple[int, int], advice: str
) -> None:
    lab = load_target(module_target.name)
    with stock_front_end(lab) as front_end:
        link = BareLink(lab, front_end.kernel_id, lambda event: None, protocol=protocol)
        error = asyncio.run(link.run())
        assert isinstance(error, VersionMismatch)
        assert advice in str(error)
        assert "\n" not in error.message
        assert front_end.run("print('unharmed')").text() == "unharmed\n"


def test_a_host_of_another_protocol_is_refused_by_the_client_in_one_sentence() -> None:
    link = Link(Role.CLIENT, Outbox(), hello=Hello("c", "k"))
    link.connection_made(0.0)
    link.receive(Welcome("k", 1, 0, 1, 1024, {}, protocol=9).encode(), 0.0)
    (event,) = link.events()
    assert isinstance(event, Failed)
    assert isinstance(event.error, VersionMismatch)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the older version, and the libraries of this one."""
    packed = subprocess.run(
        ["git", "archive", OLDER, "kernel_provider", "gateway_ext"], cwd=ROOT, capture_output=True
    )
    if packed.returncode:
        pytest.skip(f"the history of this clone does not reach back to {OLDER}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    paths = [str(folder / "kernel_provider"), str(folder / "gateway_ext")]
    first = f"import sys; sys.path[:0] = {paths}\n"
    (packages / "older.pth").write_text(first + sysconfig.get_path("purelib") + "\n")
    python, bridge = (folder / "venv" / "bin" / name for name in ("python", "clouditia-kernel"))
    bridge.write_text(
        f"#!{python}\nfrom clouditia.bridge.process import main\nraise SystemExit(main())\n"
    )
    bridge.chmod(0o755)
    return str(python)


def runs_from(python: str, home: IsolatedHome) -> str:
    return run(home, python, "-c", "import clouditia; print(clouditia.__file__)")


def run(home: IsolatedHome, *command: str) -> str:
    done = subprocess.run(
        command,
        env=home.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_kernels_of_an_older_gateway_and_host_are_served_by_this_one(
    clouditia_home: IsolatedHome, older: str
) -> None:
    before = GatewayProcess(clouditia_home, python=older)
    before.start()
    lab = load_target(log_in(before).name)
    now = GatewayProcess(clouditia_home, state_dir=before.state_dir)
    with stock_front_end(lab) as front_end:
        front_end.run("kept = 'still here'")
        host = find_process(before.state_dir, "clouditia_gateway.host")
        assert command_line(host).startswith(older)
        before.terminate()
        now.start()
        now.run("kernelspec", "attach", front_end.kernel_id, "--name", "old")
        with started("old") as manager, connected(manager) as bridged:
            assert bridged.run("print(kept)").text() == "still here\n"
        assert front_end.run("print(kept)").text() == "still here\n"
        assert host.is_running()
        GatewayClient(lab).restart(front_end.kernel_id)
        assert front_end.run("print('kept' in globals())").text() == "False\n"
    now.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_client_older", [True, False])
def test_a_client_and_a_gateway_of_different_versions_run_a_script(
    clouditia_home: IsolatedHome, older: str, is_client_older: bool
) -> None:
    script = clouditia_home.directory / "script.py"
    script.write_text("for i in range(1000): print(i)\n")
    client, server = (older, sys.executable) if is_client_older else (sys.executable, older)
    assert "older" in runs_from(older, clouditia_home)
    assert "older" not in runs_from(sys.executable, clouditia_home)
    with GatewayProcess(clouditia_home, python=server) as gateway:
        log_in(gateway)
        printed = run(
            clouditia_home, client, "-m", "clouditia.cli", "run", str(script), "--target", "lab"
        )
        assert printed.splitlines() == [str(number) for number in range(1000)]
