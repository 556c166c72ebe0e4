"""A tiny gateway to answer REST calls, and a user's empty home."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clouditia.rest import PROTOCOL_HEADER

KEY = "ck_ada_secret"
SPECS = {
    "default": "python3",
    "kernelspecs": {
        "python3": {
            "name": "python3",
            "spec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "metadata": {"debugger": True},
            },
        },
        "bash": {"name": "bash", "spec": {"display_name": "Bash", "language": "bash"}},
    },
}


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeGateway:
    """Answers from a table of ``"METHOD /path"``; remembers what was asked."""

    url: str
    answers: dict[str, Answer]
    key: str = KEY
    is_stock: bool = False
    is_open: bool = False  # tells its version to everybody
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)


def default_answers() -> dict[str, Answer]:
    return {
        "GET /clouditia/api/v1/info": Answer(200, {"version": "3.0", "protocol": 1}),
        "GET /api/me": Answer(200, {"identity": {"username": "ada"}}),
        "GET /api/kernelspecs": Answer(200, SPECS),
        "GET /api/kernels": Answer(200, []),
    }


@pytest.fixture
def fake_gateway() -> Iterator[FakeGateway]:
    yield from serve_fake()


@pytest.fixture
def stock_server() -> Iterator[FakeGateway]:
    """A server as other people have it, with a token of its own."""
    for server in serve_fake():
        server.is_stock, server.key = True, "f00d"
        del server.answers["GET /clouditia/api/v1/info"]
        server.answers["GET /api"] = Answer(200, {"version": "2.14"})
        yield server


@pytest.fixture
def tls_gateway(certificate: Path) -> Iterator[FakeGateway]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serve_fake(context)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate for localhost in one PEM file."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "gateway.pem")


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "other.pem")


def make_certificate(path: Path) -> Path:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    command += ["-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def serve_fake(context: ssl.SSLContext | None = None) -> Iterator[FakeGateway]:
    gateway = FakeGateway("", default_answers())

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            gateway.requests.append((self.command, self.path, body))
            gateway.authorizations.append(self.headers.get("Authorization"))
            found = gateway.answers.get(f"{self.command} {self.path}")
            wanted = f"token {gateway.key}" if gateway.key else None
            is_public = gateway.is_open and self.path == "/api"
            if found is None:
                found = Answer(404, {"message": "no such thing"})
            elif self.headers.get("Authorization") != wanted and not is_public:
                found = Answer(403 if gateway.is_stock else 401, {"message": "Forbidden"})
            content = found.body if isinstance(found.body, bytes) else json.dumps(found.body)
            data = content if isinstance(content, bytes) else content.encode()
            self.send_response(found.status)
            if not gateway.is_stock:
                self.send_header(PROTOCOL_HEADER, "1")
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that refuse the certificate

    server = Server(("127.0.0.1", 0), Handler)
    scheme, host = "http", "127.0.0.1"
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        scheme, host = "https", "localhost"
    gateway.url = f"{scheme}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "ada.key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def isolated(clouditia_home: object) -> None:
    """No test of this folder sees the real user's files."""
