"""Limits: as much as allowed works, one more is a clear refusal, and the gateway lives on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import psutil
import pytest
from tests.contract.http import Client

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until
from clouditia_gateway.config import MAX_JSON_DEPTH
from clouditia_gateway.front_door import HEAD_TIMEOUT_S

KERNELS = 2
CONNECTIONS = 5


class Slow(NamedTuple):
    """Connections that say too little: opened first, looked at last, so that nobody waits twice."""

    opened_at: float
    silent: socket.socket
    dribbling: socket.socket


@pytest.fixture(scope="module")
def strict(module_home: IsolatedHome) -> Iterator[GatewayProcess]:
    options = ("--kernels-per-user", str(KERNELS), "--connections-per-address", str(CONNECTIONS))
    with GatewayProcess(module_home, options=options) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(strict: GatewayProcess) -> Client:
    return Client(strict.url, strict.create_key("ada"))


@pytest.fixture(scope="module", autouse=True)
def slow(client: Client) -> Iterator[Slow]:
    opened_at = time.monotonic()
    with dialled(client) as silent, dialled(client) as dribbling:
        dribbling.sendall(b"GET /api/kernels HTTP/1.1\r\nHost: x\r\n")
        yield Slow(opened_at, silent, dribbling)


def dialled(client: Client, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((client.host, client.port), 60, source_address=(source, 0))


def test_a_user_gets_as_many_kernels_as_allowed_and_then_a_sentence(
    strict: GatewayProcess, client: Client
) -> None:
    ids = [client("POST", "/api/kernels").json["id"] for _ in range(KERNELS)]
    try:
        for way in ("/api/kernels", "/api/sessions"):
            answer = client("POST", way, {"path": "a.ipynb"})
            assert answer.status == 429
            assert answer.json["code"] == "quota_exceeded"
            assert f"at most {KERNELS} are allowed" in answer.json["message"]
        bob = Client(strict.url, strict.create_key("bob"))
        ids.append(bob("POST", "/api/kernels").json["id"])
    finally:
        admin = Client(strict.url, strict.admin_key)
        assert [admin("DELETE", f"/api/kernels/{one}").status for one in ids] == [204] * len(ids)
    audit = (strict.state_dir / "audit.jsonl").read_text()
    assert '"event":"limit_reached"' in audit


def test_an_address_gets_as_many_connections_as_allowed_and_then_a_sentence(
    client: Client,
) -> None:
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(closing(dialled(client, "127.0.0.2")))
        # Accepted in order: what this one is answered, the others were not.
        with closing(dialled(client, "127.0.0.2")) as one_more:
            one_more.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = read_all(one_more).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert json.loads(body)["code"] == "quota_exceeded"
        assert f"127.0.0.2 has {CONNECTIONS} connections" in json.loads(body)["message"]
        assert client("GET", "/api/kernels").status == 200  # another address
    wait_until(lambda: is_served(client, "127.0.0.2"), 60)


def is_served(client: Client, source: str) -> bool:
    with closing(dialled(client, source)) as again:
        again.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return read_all(again).startswith(b"HTTP/1.1 200 ")


def read_all(connection: socket.socket) -> bytes:
    read = b""
    while piece := connection.recv(65536):
        read += piece
    return read


def nested(depth: int) -> bytes:
    """A body of that many levels, itself included."""
    inner = depth - 1
    return b'{"x": ' + b"[" * inner + b"]" * inner + b"}"


def test_json_is_taken_as_deep_as_allowed_and_no_deeper(client: Client) -> None:
    allowed = client("POST", "/api/sessions", raw=nested(MAX_JSON_DEPTH))
    assert allowed.json["message"] == "a session needs a path"
    for depth in (MAX_JSON_DEPTH + 1, 500, 100_000):
        refused = client("POST", "/api/sessions", raw=nested(depth))
        assert refused.status == 400
        assert refused.json["code"] == "bad_request"
        assert "nested deeper" in refused.json["message"] or "not valid" in refused.json["message"]


@pytest.mark.parametrize("where", ["header", "query", "cookie"])
def test_a_key_of_a_megabyte_costs_no_more_of_the_log_than_another(
    strict: GatewayProcess, where: str
) -> None:
    log = strict.state_dir / "gateway.log"
    audit = strict.state_dir / "audit.jsonl"
    before = log.stat().st_size + audit.stat().st_size
    memory = psutil.Process(strict.pid).memory_info().rss
    nobody = Client(strict.url)
    for size in (60_000, 1_000_000):
        key = "ck_" + "x" * size
        path = f"/?token={key}" if where == "query" else "/api/kernels"
        headers = {"header": {"Authorization": f"Bearer {key}"}, "query": {}}
        headers["cookie"] = {"Cookie": f"clouditia-login={key}"}
        try:
            assert nobody("GET", path, headers=headers[where]).status in (302, 400, 401, 429, 431)
        except (ConnectionError, OSError):
            assert size == 1_000_000  # closed while it still sent
    assert log.stat().st_size + audit.stat().st_size - before < 1024
    assert psutil.Process(strict.pid).memory_info().rss - memory < 16 * 1024 * 1024


def test_whoever_sends_no_whole_request_is_let_go_of_after_ten_seconds(
    slow: Slow, client: Client
) -> None:
    """The figure is the gateway's; the deadline leaves a slow machine twice as long again."""
    for connection in (slow.silent, slow.dribbling):
        connection.settimeout(3 * HEAD_TIMEOUT_S)
        assert connection.recv(1) == b""
    took = time.monotonic() - slow.opened_at
    assert HEAD_TIMEOUT_S - 1 <= took <= 3 * HEAD_TIMEOUT_S
    assert client("GET", "/api/kernels").status == 200


def test_an_idle_connection_that_has_spoken_is_kept(client: Client) -> None:
    """Programs keep connections; the ten seconds are only for the first request."""
    with closing(dialled(client)) as kept:
        request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        kept.settimeout(0.5)
        with pytest.raises(TimeoutError):
            kept.recv(1)  # nothing more, and no end
        kept.settimeout(60)
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
