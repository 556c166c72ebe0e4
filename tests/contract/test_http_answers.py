"""What a running gateway answers to odd, hostile and VS Code's requests."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import urlencode

import pytest
from tests.contract.http import Answer, Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from clouditia.testing.gateway_process import GatewayProcess
from clouditia_gateway.config import MAX_BODY_BYTES

GONE = [
    "/api/contents", "/api/terminals", "/api/shutdown", "/api/config/x", "/api/events",
    "/api/events/subscribe", "/api/nbconvert", "/nbconvert/html/x", "/files/x", "/view/x",
    "/static/style/index.css", "/api/security/csp-report", "/metrics", "/lab", "/notebooks/x",
    "/api/spec.yaml", "/favicon.ico", "/api/kernels/", "/custom/custom.js", "/terminals/1",
]  # fmt: skip


SHORT = {"v1.resume.clouditia": "link", "v1.kernel.websocket.jupyter.org": "v1", "": "legacy"}


@pytest.fixture(scope="module")
def client(module_gateway: GatewayProcess) -> Client:
    return Client(module_gateway.url, module_gateway.create_key("ada"))


@pytest.mark.parametrize("path", GONE)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_what_jupyter_server_has_beyond_kernels_is_not_here(
    client: Client, path: str, method: str
) -> None:
    answer = client(method, path)
    assert answer.status == 404
    if method != "HEAD":
        assert answer.json["code"] == "not_found"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"3", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"name": 3}', 400),
        (b'{"env": []}', 400),
        (b'{"env": {"A": 1}}', 400),
        (b'{"path": "../../etc"}', 400),
        (b'{"path": ["x"]}', 400),
        (b'{"name": "nope"}', 404),
        (b'{"name": "../../../etc"}', 404),
        (b'{"name": "' + b"x" * 10_000 + b'"}', 404),
        (b'{"kernel_id": "../x"}', 400),
        (b'{"path": "a\\u0000b"}', 400),
        (b'{"path": "\\ud800"}', 400),
    ],
)
def test_a_bad_start_is_refused_clearly_and_starts_nothing(
    client: Client, raw: bytes, status: int
) -> None:
    answer = client("POST", "/api/kernels", raw=raw)
    assert answer.status == status, answer.body
    assert answer.json["message"]
    assert answer.json["reason"] == answer.json["code"]
    for leak in ("Traceback", "/home", "site-packages", "/tmp"):
        assert leak not in answer.body.decode()
    assert len(answer.body) < 2000
    assert client("GET", "/api/kernels").json == []


def test_a_body_beyond_the_limit_is_413_before_it_is_read(client: Client) -> None:
    headers = {"Content-Length": str(MAX_BODY_BYTES + 1)}
    answer = client("POST", "/api/kernels", raw=b"", headers=headers)
    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in answer.json["message"]


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: Client) -> None:
    piece = b"x" * 65536
    with socket.create_connection((client.host, client.port), timeout=10) as raw:
        raw.sendall(
            b"POST /api/kernels HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Authorization: Bearer " + (client.key or "").encode() + b"\r\n\r\n"
        )
        for _ in range(MAX_BODY_BYTES // len(piece) + 2):
            raw.sendall(b"10000\r\n" + piece + b"\r\n")
        raw.sendall(b"0\r\n\r\n")
        assert raw.recv(200).startswith(b"HTTP/1.1 413")


def test_nobody_without_a_key_can_make_it_read_a_body(module_gateway: GatewayProcess) -> None:
    nobody = Client(module_gateway.url)
    headers = {"Content-Length": str(MAX_BODY_BYTES)}
    assert nobody("POST", "/api/kernels", raw=b"", headers=headers).status == 401


def test_methods_that_a_route_lacks_are_405_and_head_is_a_get(client: Client) -> None:
    assert client("PUT", "/api/kernels").status == 405
    assert client("PUT", "/api/kernels").json["code"] == "method_not_allowed"
    assert client("DELETE", "/api/kernels").status == 405
    assert client("OPTIONS", "/api/kernels").status == 405
    head = client("HEAD", "/api/kernels")
    assert (head.status, head.body) == (200, b"")
    assert client("HEAD", "/api/kernels/x").status == 404


def test_no_answer_lets_other_sites_read_or_frame_it(client: Client) -> None:
    answer = client("GET", "/api/kernels", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


def test_a_token_in_the_url_is_refused_by_rest(module_gateway: GatewayProcess) -> None:
    key = module_gateway.create_key("eve")
    nobody = Client(module_gateway.url)
    assert nobody("GET", f"/api/kernels?token={key}").status == 401
    assert nobody("GET", f"/?token={key}").status == 200
    assert "set-cookie" not in nobody("GET", f"/?token={key}").headers
    assert key not in module_gateway.output
    assert key not in (module_gateway.state_dir / "gateway.log").read_text()


def test_the_kernelspecs_show_no_paths_and_no_environment(client: Client) -> None:
    model = client("GET", "/api/kernelspecs").json
    assert model["default"] == "python3"
    for spec in model["kernelspecs"].values():
        assert spec["spec"]["env"] == {}
        assert not any(part.startswith("/") for part in spec["spec"]["argv"])
        for url in spec["resources"].values():
            assert client("GET", url).status == 200
    assert client("GET", "/kernelspecs/python3/kernel.json").status == 404
    assert client("GET", "/kernelspecs/python3/..%2fkernel.json").status == 404


def test_who_am_i_and_what_is_this(client: Client) -> None:
    me = client("GET", "/api/me?permissions=%7B%22kernels%22%3A%5B%22read%22%5D%7D").json
    assert me["identity"]["username"] == "ada"
    assert me["permissions"] == {"kernels": ["read"]}
    assert client("GET", "/api/me?permissions=x").status == 400
    info = client("GET", "/clouditia/api/v1/info").json
    assert (info["user"], info["protocol"]) == ("ada", 1)


class TestLoginAsVsCodeDoesIt:
    def test_the_password_flow_gives_a_cookie_that_works_until_its_key_is_revoked(
        self, module_gateway: GatewayProcess
    ) -> None:
        key = module_gateway.create_key("vera")
        nobody = Client(module_gateway.url)
        assert nobody("GET", "/tree?").status == 302
        form = nobody("GET", "/login?")
        xsrf = self.cookies(form.headers)["_xsrf"]
        done = self.post_login(nobody, xsrf, key)
        assert done.status == 302
        name, value = next(iter(self.cookies(done.headers).items()))
        assert key not in value
        cookie = {"Cookie": f"_xsrf={xsrf}; {name}={value}"}
        assert nobody("GET", "/api/kernels", headers=cookie).status == 200
        # A form of another site sends the cookie too, but cannot know the _xsrf value.
        assert nobody("POST", "/api/kernels", {"name": "nope"}, headers=cookie).status == 403
        with_xsrf = {**cookie, "X-XSRFToken": xsrf}
        assert nobody("POST", "/api/kernels", {"name": "nope"}, headers=with_xsrf).status == 404

        module_gateway.run(
            "keys", "revoke", key.split("_")[1], "--state-dir", str(module_gateway.state_dir)
        )
        assert nobody("GET", "/api/kernels", headers=cookie).status == 401

    def test_a_login_without_xsrf_or_with_a_wrong_key_fails(
        self, module_gateway: GatewayProcess
    ) -> None:
        nobody = Client(module_gateway.url)
        assert self.post_login(nobody, "", "x").status == 403
        xsrf = self.cookies(nobody("GET", "/login").headers)["_xsrf"]
        wrong = self.post_login(nobody, xsrf, "<script>ck_nonsense")
        assert wrong.status == 401
        assert "<script>" not in wrong.body.decode()

    def test_nobody_logged_in_is_sent_to_the_form(self, module_gateway: GatewayProcess) -> None:
        answer = Client(module_gateway.url)("GET", "/")
        assert answer.status == 302
        assert answer.headers["location"].endswith("/login")

    @staticmethod
    def post_login(client: Client, xsrf: str, password: str) -> Answer:
        return client(
            "POST",
            "/login?",
            raw=urlencode({"_xsrf": xsrf, "password": password}).encode(),
            headers={
                "Cookie": f"_xsrf={xsrf}",
                "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
            },
        )

    @staticmethod
    def cookies(headers: dict[str, str]) -> dict[str, str]:
        found = re.match(r"([^=]+)=\"?([^;\"]+)", headers["set-cookie"])
        assert found is not None
        return {found.group(1): found.group(2)}


def test_guessing_is_slowed_down_and_valid_keys_are_not(
    module_gateway: GatewayProcess, client: Client
) -> None:
    guesser = Client(module_gateway.url, "ck_" + "0" * 12 + "_" + "0" * 64)
    answers = [guesser("GET", "/api/kernels") for _ in range(14)]
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert client("GET", "/api/kernels").status == 200


@pytest.mark.parametrize(
    "subprotocol", ["v1.resume.clouditia", "v1.kernel.websocket.jupyter.org", ""], ids=SHORT.get
)
def test_revoking_a_key_closes_its_websockets_within_5_s(
    module_gateway: GatewayProcess, subprotocol: str
) -> None:
    key = module_gateway.create_key("rita")
    owner = Client(module_gateway.url, key)
    kernel_id = owner("POST", "/api/kernels").json["id"]
    url = f"ws{module_gateway.url.removeprefix('http')}/api/kernels/{kernel_id}/channels"
    try:
        with connect(
            url,
            additional_headers={"Authorization": f"Bearer {key}"},
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
        ) as socket_of_rita:
            state = ("--state-dir", str(module_gateway.state_dir))
            module_gateway.run("keys", "revoke", key.split("_")[1], *state)
            revoked_at = time.monotonic()
            with pytest.raises(ConnectionClosed) as closed:
                read_until_closed(socket_of_rita)
            assert time.monotonic() - revoked_at <= 5
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
            assert "revoked" in closed.value.rcvd.reason
    finally:
        admin = Client(module_gateway.url, module_gateway.admin_key)
        assert admin("DELETE", f"/api/kernels/{kernel_id}").status == 204


def read_until_closed(connection: ClientConnection) -> None:
    while True:
        connection.recv(timeout=5)
