"""Known keys go through every part, the right way and all wrong ways; then nobody else has them.

What is searched: logs, what every process prints, its command line and its environment,
kernelspecs, notebooks, connection files, journals, the database, the audit log, and answers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest
from tests.contract.http import Client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import command_line, processes_under
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "source": "import os; print(sorted(os.environ.items()))",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def test_no_key_is_anywhere_but_in_its_own_file(target: LoggedInTarget) -> None:
    gateway, home = target.gateway, target.gateway.home
    extra = gateway.create_key("bob")
    keys = {"user": target.key, "admin": gateway.admin_key, "stock client": extra}
    said = [use_wrongly(gateway, key) for key in keys.values()]
    (home.directory / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    said.append(gateway.run("run", "a.ipynb", "--target", target.name))
    said.append(gateway.run("doctor", "--json") + gateway.run("kernels", "list"))
    client = GatewayClient(load_target(target.name))
    kernel_id = client.start_kernel("python3", env={"CLOUDITIA_API_KEY": target.key}, path="")["id"]
    wait_until(lambda: client.get_kernel(kernel_id)["execution_state"] == "idle", WAIT_S)
    said.append(bodies(gateway, extra) + bodies(gateway, target.key))
    attach(gateway, kernel_id, target.key)
    planted = home.directory / "planted.txt"
    planted.write_text(f"a note with {target.key} in it")
    assert where(target.key.split("_")[2], target, said) == ["planted.txt"]  # the search works
    planted.unlink()
    found = {
        name: places
        for name, key in keys.items()
        if (places := where(key.split("_")[2], target, [*said, gateway.output]))
    }
    client.shutdown(kernel_id)
    gateway.restart()
    assert found == {}
    for key in keys.values():
        assert key.split("_")[2] not in gateway.output


def use_wrongly(gateway: GatewayProcess, key: str) -> str:
    """In URLs, cookies, bodies and headers where it does not belong; returns what was answered."""
    nobody = Client(gateway.url)
    headers = {"Cookie": f"clouditia-login={key}", "Referer": f"{gateway.url}/?token={key}"}
    answers = [
        nobody("GET", f"/?token={key}", headers=headers),
        nobody("GET", f"/api/kernels?token={key}", headers=headers),
        nobody("GET", f"/api/kernels/{key}", headers={"Authorization": f"Bearer {key}x"}),
        nobody("POST", "/login", raw=f"password={key}".encode()),
        nobody("GET", f"/{key}"),
    ]
    # What quotes the path that was asked for quotes only what its sender has sent.
    return "".join(
        answer.body.decode() for answer in answers if "is not a route" not in answer.body.decode()
    )


def bodies(gateway: GatewayProcess, key: str) -> str:
    """All that can be read with a key."""
    client = Client(gateway.url, key)
    routes = ["/", "/api/me", "/api/kernels", "/api/sessions", "/api/kernelspecs", "/api/status"]
    routes += ["/clouditia/api/v1/info", "/clouditia/api/v1/openapi.json", "/login"]
    answers = [client("GET", route) for route in routes]
    return "".join(f"{answer.headers}{answer.body.decode()}" for answer in answers)


def attach(gateway: GatewayProcess, kernel_id: str, key: str) -> None:
    """As VS Code does, with the key in the URL; then with a wrong one."""
    url = f"ws{gateway.url[4:]}/api/kernels/{kernel_id}/channels?token={key}"
    stock = Subprotocol("v1.kernel.websocket.jupyter.org")
    with connect(url, subprotocols=[stock]) as socket:
        assert socket.subprotocol == stock
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{url}x", subprotocols=[stock]).close()
    assert refused.value.response.status_code in (401, 429)


def where(secret: str, target: LoggedInTarget, said: list[str]) -> list[str]:
    """Every place that holds a secret and should not."""
    home = target.gateway.home.directory
    places = ["what was printed or answered"] if any(secret in text for text in said) else []
    for path in home.rglob("*"):
        if path.is_file() and secret.encode() in path.read_bytes() and not is_key_file(path):
            places.append(str(path.relative_to(home)))
    for process in processes_under(home):
        places += [f"{kind} of {command_line(process)}" for kind in of_process(process, secret)]
    return places


def is_key_file(path: Path) -> bool:
    """A private file that holds one key and nothing else."""
    is_private = path.stat().st_mode & 0o077 == 0
    return is_private and re.fullmatch(r"[cs]k_\w+_\w+\n?", path.read_text()) is not None


def of_process(process: psutil.Process, secret: str) -> list[str]:
    try:
        parts = {
            "command line": " ".join(process.cmdline()),
            "environment": str(process.environ()),
        }
    except psutil.Error:
        return []
    return [kind for kind, text in parts.items() if secret in text]
