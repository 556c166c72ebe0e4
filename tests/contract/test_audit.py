"""The audit log of a real gateway: what it holds, what it never holds, and who notices an edit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import NamedTuple

import pytest
from tests.contract.http import Client
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clouditia.testing.gateway_process import GatewayProcess

WAIT_S = 60.0
SECRET_CODE = "the_code_of_a_cell_is_nobodys_business"


class Scene(NamedTuple):
    """What has happened: events, and who took part."""

    gateway: GatewayProcess
    key: str
    kernel_id: str
    events: list[dict[str, object]]


def events_of(gateway: GatewayProcess) -> list[dict[str, object]]:
    printed = gateway.run("audit", "show", "--json", "--state-dir", str(gateway.state_dir))
    return [json.loads(line) for line in printed.splitlines()]


def verify(gateway: GatewayProcess, *options: str) -> subprocess.CompletedProcess[str]:
    state = ("--state-dir", str(gateway.state_dir))
    return subprocess.run(
        [sys.executable, "-m", "clouditia.cli", "audit", "verify", *options, *state],
        env=gateway.home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def scene(module_gateway: GatewayProcess) -> Scene:
    gateway = module_gateway
    key, other, look = (gateway.create_key("ada"), gateway.create_key("bob"), "")
    state = ("--state-dir", str(gateway.state_dir))
    look = gateway.run("keys", "create", "--user", "eve", "--read-only", *state).strip()
    ada, bob, eve = (Client(gateway.url, one) for one in (key, other, look))
    kernel_id = ada("POST", "/api/kernels", {"name": "python3"}).json["id"]
    attach(gateway, kernel_id, key)
    url = f"ws{gateway.url[4:]}/api/kernels/{kernel_id}/channels"
    link = [Subprotocol("v1.resume.clouditia")]
    with connect(url, subprotocols=link, additional_headers={"Authorization": f"token {key}"}):
        pass
    assert bob("DELETE", f"/api/kernels/{kernel_id}").status == 404
    assert eve("POST", "/api/kernels").status == 403
    assert Client(gateway.url, key[:-1] + "x")("GET", "/api/kernels").status == 401
    wrong = key[:-4] + ("0000" if key[-4:] != "0000" else "1111")
    assert Client(gateway.url, wrong)("GET", "/api/kernels").status == 401
    gateway.restart()
    gateway.restart(kill=True)
    assert ada("DELETE", f"/api/kernels/{kernel_id}").status == 204
    gateway.run("keys", "revoke", other.split("_")[1], *state)
    return Scene(gateway, key, kernel_id, events_of(gateway))


def attach(gateway: GatewayProcess, kernel_id: str, key: str) -> None:
    """As a stock client, and send some code."""
    with connect(
        f"ws{gateway.url[4:]}/api/kernels/{kernel_id}/channels",
        subprotocols=[Subprotocol("v1.kernel.websocket.jupyter.org")],
        additional_headers={"Authorization": f"token {key}"},
    ) as socket:
        socket.send(execute_request())
        while b"execute_reply" not in socket.recv(timeout=WAIT_S):
            pass


def execute_request() -> bytes:
    from clouditia.protocol.messages import Message, encode_json, encode_v1

    header = {"msg_id": "m1", "session": "s", "username": "", "version": "5.3"}
    header |= {"msg_type": "execute_request", "date": "2026-01-01T00:00:00Z"}
    content = {"code": f"{SECRET_CODE} = 1", "silent": False, "allow_stdin": False}
    parts = (encode_json(header), b"{}", b"{}", encode_json(content))
    return b"".join(encode_v1(Message("shell", *parts)))


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("gateway_started", {"host": "127.0.0.1", "tls": False}),
        ("key_created", {"user": "admin", "is_admin": True, "scope": "all"}),
        ("key_created", {"user": "ada", "is_admin": False}),
        ("key_created", {"user": "eve", "scope": "read"}),
        ("key_revoked", {"user": "bob"}),
        ("kernel_started", {"user": "ada", "kernel": "python3", "from": "127.0.0.1"}),
        ("kernel_attached", {"user": "ada", "form": "v1.kernel.websocket.jupyter.org"}),
        ("kernel_attached", {"user": "ada", "form": "v1.resume.clouditia"}),
        ("kernel_ended", {"user": "ada", "owner": "ada"}),
        ("permission_refused", {"user": "bob", "owner": "ada"}),
        ("permission_refused", {"user": "eve", "request": "POST /api/kernels"}),
        ("login_refused", {"from": "127.0.0.1", "why": "this gateway does not know this key"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_it_holds_what_happened(scene: Scene, event: str, fields: dict[str, object]) -> None:
    found = [one for one in scene.events if one["event"] == event]
    assert any(fields.items() <= one.items() for one in found), found


def test_gateways_that_were_stopped_and_killed_share_one_sound_chain(scene: Scene) -> None:
    names = [one["event"] for one in scene.events]
    assert names.count("gateway_started") == 3
    assert names.count("gateway_stopped") == 1  # the second was killed
    done = verify(scene.gateway)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"lines 1 to {len(names)} are as they were written" in done.stdout


def test_it_holds_no_key_no_hash_of_one_and_no_code(scene: Scene) -> None:
    raw = (scene.gateway.state_dir / "audit.jsonl").read_text()
    for key in (scene.key, scene.gateway.admin_key):
        assert key.split("_")[1] in raw
        assert key.split("_")[2][:16] not in raw
    assert SECRET_CODE not in raw
    assert scene.kernel_id in raw


def test_people_can_read_it(scene: Scene) -> None:
    state = ("--state-dir", str(scene.gateway.state_dir))
    printed = scene.gateway.run("audit", "show", "--last", "2", *state).splitlines()
    assert len(printed) == 2
    event = r"key_revoked +key_id=\w+ user=bob by_uid=\d+"
    assert re.fullmatch(r" +\d+ [\dT:-]{19}Z " + event, printed[1])


@pytest.mark.parametrize(
    ("deed", "kind"), [("edit", "edited"), ("delete", "deleted"), ("insert", "inserted")]
)
def test_the_first_line_that_was_touched_is_named(scene: Scene, deed: str, kind: str) -> None:
    path = scene.gateway.state_dir / "audit.jsonl"
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    changed = {
        "edit": [*lines[:3], lines[3].replace(b'"user"', b'"User"'), *lines[4:]],
        "delete": [*lines[:3], *lines[4:]],
        "insert": [*lines[:3], lines[0], *lines[3:]],
    }[deed]
    path.write_bytes(b"".join(changed))
    try:
        done = verify(scene.gateway)
        as_json = json.loads(verify(scene.gateway, "--json").stdout)
    finally:
        path.write_bytes(before)
    line = 1 if deed == "insert" else 4  # the copy of line 1 stands where line 4 was
    assert done.returncode == 1
    assert done.stdout.startswith(f"line {line} was {kind}: ")
    assert (as_json["fault"]["line"], as_json["fault"]["kind"]) == (line, kind)


def test_a_head_that_was_kept_elsewhere_tells_a_chain_that_was_written_anew(scene: Scene) -> None:
    state = scene.gateway.state_dir
    lines = (state / "audit.jsonl").read_bytes().splitlines()
    kept = re.search(r"head (\S+)", verify(scene.gateway).stdout)
    assert kept is not None
    assert verify(scene.gateway, "--head", kept.group(1)).returncode == 0
    saved = {path: path.read_bytes() for path in (state / "audit.jsonl", state / "audit.head")}
    try:
        rewrite(state, len(lines))
        assert verify(scene.gateway).returncode == 0  # its own head fits
        done = verify(scene.gateway, "--head", kept.group(1))
        assert done.returncode == 1
        assert done.stdout.startswith(f"line {len(lines)} was edited")
    finally:
        for path, content in saved.items():
            path.write_bytes(content)
    assert verify(scene.gateway, "--head", "nonsense").returncode == 2


def rewrite(state: object, count: int) -> None:
    """What somebody who may write the directory can always do."""
    from pathlib import Path

    from clouditia.protocol.audit_chain import START, next_line

    lines, head = [], START
    for _ in range(count):
        line, head = next_line(head, "", "nothing_happened", {})
        lines.append(line + b"\n")
    Path(str(state), "audit.jsonl").write_bytes(b"".join(lines))
    Path(str(state), "audit.head").write_bytes(head.encode())


def test_without_a_log_the_command_says_where_it_looked(module_gateway: GatewayProcess) -> None:
    nowhere = module_gateway.home.directory / "nowhere"
    done = subprocess.run(
        [sys.executable, "-m", "clouditia.cli", "audit", "verify", "--state-dir", str(nowhere)],
        env=module_gateway.home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no audit log in {nowhere}" in done.stderr
