"""Backups of a live state directory, and gateways on what is made of them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.http import Client
from tests.integration.front_end import connected, started

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import kill_all_under, processes_under
from clouditia.testing.targets import log_in
from clouditia.testing.waiting import wait_until

WAIT_S = 60


@pytest.fixture
def gateway(clouditia_home: IsolatedHome) -> Iterator[GatewayProcess]:
    with GatewayProcess(clouditia_home) as running:
        log_in(running)
        yield running


def backup(gateway: GatewayProcess, name: str, *options: str) -> Path:
    path = gateway.home.directory / name
    gateway.run("gateway", "backup", str(path), "--state-dir", str(gateway.state_dir), *options)
    return path


def restore(gateway: GatewayProcess, path: Path, to: Path, *options: str) -> dict[str, Any]:
    arguments = ["--json", "gateway", "restore", str(path), "--state-dir", str(to), *options]
    report: dict[str, Any] = json.loads(gateway.run(*arguments))
    return report


def refused(gateway: GatewayProcess, path: Path, to: Path, *options: str) -> str:
    """What is said when the backup is not restored."""
    with pytest.raises(RuntimeError) as error:
        gateway.run("gateway", "restore", str(path), "--state-dir", str(to), *options)
    assert "Traceback" not in str(error.value)
    return str(error.value)


def test_kernels_keys_and_sessions_come_back_and_running_kernels_are_taken_over(
    gateway: GatewayProcess,
) -> None:
    """The database is lost, an old backup is all there is, and three kernels run."""
    rest = GatewayClient(load_target("lab"))
    client = Client(gateway.url, gateway.create_key("ada"))
    with started("clouditia-lab-python3") as manager, connected(manager) as front_end:
        front_end.run("kept = 'still here'")
        (before,) = rest.list_kernels()
        session = {
            "path": "a.ipynb", "name": "", "type": "notebook", "kernel": {"id": before["id"]}
        }  # fmt: skip
        assert client("POST", "/api/sessions", session).status == 201
        path = backup(gateway, "lab.tar", "--journals")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with tarfile.open(path) as archive:
            names = archive.getnames()
        assert names[:3] == ["manifest.json", "gateway.sqlite3", "admin.key"]
        assert any(name.endswith(".journal") for name in names)
        later = client("POST", "/api/kernels", {"name": "python3"}).json["id"]
        wait_until(
            lambda: client("GET", f"/api/kernels/{later}").json["execution_state"] == "idle", WAIT_S
        )
        # In a directory with a gateway, or with a database, nothing is restored.
        assert "not empty" in refused(gateway, path, gateway.state_dir)
        assert "already runs" in refused(gateway, path, gateway.state_dir, "--keep-kernels")
        gateway.kill()
        told = refused(gateway, path, gateway.state_dir, "--keep-kernels")
        assert "Move gateway.sqlite3" in told
        for lost in gateway.state_dir.glob("gateway.sqlite3*"):
            lost.unlink()
        with pytest.raises(RuntimeError, match="is missing, but the state directory is in use"):
            gateway.start()
        report = restore(gateway, path, gateway.state_dir, "--keep-kernels")
        fates = [tuple(each.values())[::3] for each in report["kernels"]]
        assert fates == [(before["id"], True), (later, True)]
        assert [each["is_newer"] for each in report["kernels"]] == [False, True]
        gateway.start()
        assert front_end.run("print(kept)").text() == "still here\n"
        assert [each["path"] for each in client("GET", "/api/sessions").json] == ["a.ipynb"]
        wait_until(
            lambda: all(each["clouditia"]["reachable"] for each in rest.list_kernels()), WAIT_S
        )
        assert {each["id"] for each in rest.list_kernels()} == {before["id"], later}
        assert all(each["clouditia"]["epoch"] == 1 for each in rest.list_kernels())


def test_a_backup_becomes_a_new_directory_that_takes_running_kernels_over(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    client = Client(gateway.url, gateway.create_key("ada"))
    runs, ended = (idle_kernel(client) for _ in range(2))
    path = backup(gateway, "lab.tar")
    with tarfile.open(path) as archive:
        assert not any("journal" in name for name in archive.getnames())
    url = gateway.url
    gateway.kill()
    end_host(gateway, ended)
    report = restore(gateway, path, tmp_path / "new")
    assert report["has_journals"] is False
    fates = {each["kernel_id"]: each["is_running"] for each in report["kernels"]}
    assert fates == {runs: True, ended: False}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    with GatewayProcess(gateway.home, state_dir=tmp_path / "new") as second:
        assert second.url == url
        wait_until(lambda: model(client, runs)["clouditia"]["reachable"], WAIT_S)
        assert model(client, runs)["execution_state"] == "idle"
        assert model(client, runs)["clouditia"]["epoch"] == 1
        # The other one has lost its variables, not its place.
        assert model(client, ended)["execution_state"] == "dead"
        assert client("POST", f"/api/kernels/{ended}/restart").status == 200
        wait_until(lambda: model(client, ended)["execution_state"] == "idle", WAIT_S)


def test_a_plain_copy_of_a_live_directory_is_one_too(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    client = Client(gateway.url, gateway.create_key("ada"))
    kernel_id = idle_kernel(client)
    subprocess.run(["cp", "-a", str(gateway.state_dir), str(tmp_path / "copy")], check=True)
    gateway.kill()
    with GatewayProcess(gateway.home, state_dir=tmp_path / "copy"):
        wait_until(lambda: model(client, kernel_id)["clouditia"]["reachable"], WAIT_S)
        assert model(client, kernel_id)["clouditia"]["epoch"] == 1
        assert client("DELETE", f"/api/kernels/{kernel_id}").status == 204
        wait_until(lambda: not processes_under(gateway.state_dir), WAIT_S)


def idle_kernel(client: Client) -> str:
    kernel_id: str = client("POST", "/api/kernels", {"name": "python3"}).json["id"]
    wait_until(lambda: model(client, kernel_id)["execution_state"] == "idle", WAIT_S)
    return kernel_id


def model(client: Client, kernel_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client("GET", f"/api/kernels/{kernel_id}").json
    return found


def end_host(gateway: GatewayProcess, kernel_id: str) -> None:
    for directory in (gateway.state_dir / "k").iterdir():
        launch = json.loads((directory / "launch.json").read_text())
        if launch["kernel_id"] == kernel_id:
            os.kill(json.loads((directory / "host.json").read_text())["pid"], signal.SIGKILL)
            wait_until(lambda path=directory: not processes_under(path), WAIT_S)  # type: ignore[misc]


def test_no_file_is_left_of_a_backup_that_cannot_be_written(gateway: GatewayProcess) -> None:
    folder = gateway.home.directory / "backups"
    folder.mkdir()
    target = folder / "there.tar"
    target.write_text("mine")
    with pytest.raises(RuntimeError, match="exists already"):
        backup(gateway, "backups/there.tar")
    assert target.read_text() == "mine"
    with pytest.raises(RuntimeError, match="cannot be written"):
        backup(gateway, "nowhere/lab.tar")
    nobody = gateway.home.directory / "empty"
    with pytest.raises(RuntimeError, match="no gateway's database"):
        gateway.run("gateway", "backup", str(folder / "x.tar"), "--state-dir", str(nobody))
    assert [path.name for path in folder.iterdir()] == ["there.tar"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE),
        ("/tmp/evil", tarfile.REGTYPE),
        ("k/0123abcd/../../evil", tarfile.REGTYPE),
        ("k/0123abcd/launch.json", tarfile.SYMTYPE),
        ("gateway.sqlite3", tarfile.LNKTYPE),
        ("k/0123abcd/journal/00000001.journal\n", tarfile.REGTYPE),
    ],
)
def test_an_archive_of_somebody_else_writes_nothing(
    clouditia_home: IsolatedHome, tmp_path: Path, name: str, kind: bytes
) -> None:
    process = GatewayProcess(clouditia_home)
    path = tmp_path / "evil.tar"
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"format": 1, "created_at": "", "state_dir": "", "has_journals": true}')
    with tarfile.open(path, "w") as archive:
        archive.add(manifest, "manifest.json")
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    before = sorted(os.listdir(tmp_path))
    assert "which no backup of ours does" in refused(process, path, tmp_path / "to")
    assert sorted(os.listdir(tmp_path)) == before
    for content in (b"", b"nonsense" * 200):
        path.write_bytes(content)
        assert "cannot be restored" in refused(process, path, tmp_path / "to")
    assert sorted(os.listdir(tmp_path)) == before
    kill_all_under(tmp_path)
