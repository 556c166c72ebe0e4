from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path

import pytest
from tests.unit.local.conftest import Answer, FakeGateway

from clouditia import errors
from clouditia.rest import GatewayClient
from clouditia.settings import Target


def client(
    url: str, key_file: Path, *, ca_file: Path | None = None, pin: str | None = None
) -> GatewayClient:
    target = Target("lab", url, key_file=key_file, ca_file=ca_file, pin=pin)
    return GatewayClient(target, timeout=2.0)


def test_a_kernel_is_started_with_all_that_was_asked(
    fake_gateway: FakeGateway, key_file: Path
) -> None:
    fake_gateway.answers["POST /api/kernels"] = Answer(201, {"id": "k1"})
    model = client(fake_gateway.url, key_file).start_kernel(
        "python3", env={"KERNEL_GPUS": "1"}, path="a.ipynb", kernel_id="k1"
    )
    body = {"name": "python3", "env": {"KERNEL_GPUS": "1"}, "path": "a.ipynb", "kernel_id": "k1"}
    assert model == {"id": "k1"}
    assert fake_gateway.requests == [("POST", "/api/kernels", body)]
    assert fake_gateway.authorizations == ["token ck_ada_secret"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_is_kept_with_and_without_a_slash(
    fake_gateway: FakeGateway, key_file: Path, slash: str
) -> None:
    fake_gateway.answers["GET /prefix/api/kernels"] = Answer(200, [])
    assert client(f"{fake_gateway.url}/prefix{slash}", key_file).list_kernels() == []


def test_ids_are_quoted_so_that_they_stay_one_part_of_the_path(
    fake_gateway: FakeGateway, key_file: Path
) -> None:
    with pytest.raises(errors.KernelNotFound):
        client(fake_gateway.url, key_file).get_kernel("../sessions?x")
    assert fake_gateway.requests[0][1] == "/api/kernels/..%2Fsessions%3Fx"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.KernelNotFound),
        (302, errors.ConfigError),
        (503, errors.GatewayUnreachable),
        (500, errors.ClouditiaError),
    ],
)
def test_answers_of_other_servers_become_our_errors(
    fake_gateway: FakeGateway, key_file: Path, status: int, kind: type[errors.ClouditiaError]
) -> None:
    fake_gateway.answers["GET /api/kernels/k"] = Answer(status, b"<html>", {"Location": "/x"})
    with pytest.raises(kind) as caught:
        client(fake_gateway.url, key_file).get_kernel("k")
    assert caught.value.details["http_status"] == status
    assert "ck_ada" not in str(caught.value)


def test_errors_in_our_own_form_keep_their_class_and_their_words(
    fake_gateway: FakeGateway, key_file: Path
) -> None:
    wire = errors.NoDeviceAvailable("all 2 GPUs are taken", retryable=True).to_wire()
    fake_gateway.answers["POST /api/kernels"] = Answer(429, wire)
    with pytest.raises(errors.NoDeviceAvailable, match="all 2 GPUs") as caught:
        client(fake_gateway.url, key_file).start_kernel("python3", env={}, path="")
    assert caught.value.retryable


def test_an_answer_that_is_no_json_says_so(fake_gateway: FakeGateway, key_file: Path) -> None:
    fake_gateway.answers["GET /api/me"] = Answer(200, b"<html>")
    with pytest.raises(errors.RemoteProtocolError, match="no JSON"):
        client(fake_gateway.url, key_file).me()


def test_nobody_listening_is_unreachable_and_not_sent(key_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.GatewayUnreachable) as caught:
            client(url, key_file).info()
    assert caught.value.details == {"sent": False}
    assert caught.value.retryable


def test_silence_after_the_request_is_unreachable_but_sent(key_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        slow = GatewayClient(Target("lab", url, key_file=key_file), timeout=0.2)
        with pytest.raises(errors.GatewayUnreachable, match=r"within 0\.2 s") as caught:
            slow.info()
    assert caught.value.details == {"sent": True}


def test_the_key_is_in_no_repr(fake_gateway: FakeGateway, key_file: Path) -> None:
    assert "ck_" not in repr(client(fake_gateway.url, key_file))


def test_the_gateways_clock_is_compared(fake_gateway: FakeGateway, key_file: Path) -> None:
    asking = client(fake_gateway.url, key_file)
    asking.info()
    assert asking.clock_offset_s is not None
    assert abs(asking.clock_offset_s) < 5


def test_a_self_signed_certificate_is_refused_with_the_way_out(
    tls_gateway: FakeGateway, key_file: Path
) -> None:
    with pytest.raises(errors.ConfigError, match=r"--ca-file FILE or --pin"):
        client(tls_gateway.url, key_file).info()
    assert tls_gateway.requests == []


def test_a_ca_file_makes_it_good(
    tls_gateway: FakeGateway, key_file: Path, certificate: Path
) -> None:
    assert client(tls_gateway.url, key_file, ca_file=certificate).info()["version"] == "3.0"


def test_another_ca_is_refused(
    tls_gateway: FakeGateway, key_file: Path, other_certificate: Path
) -> None:
    with pytest.raises(errors.ConfigError, match="not trusted"):
        client(tls_gateway.url, key_file, ca_file=other_certificate).info()


def test_the_right_pin_makes_it_good(
    tls_gateway: FakeGateway, key_file: Path, certificate: Path
) -> None:
    pem = certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])
    pin = hashlib.sha256(der).hexdigest()
    assert client(tls_gateway.url, key_file, pin=pin).info()["version"] == "3.0"


def test_with_a_wrong_pin_the_key_is_never_sent(tls_gateway: FakeGateway, key_file: Path) -> None:
    with pytest.raises(errors.ConfigError, match="not the pinned gateway"):
        client(tls_gateway.url, key_file, pin="0a" * 32).info()
    assert tls_gateway.authorizations == []


def test_https_to_a_plain_port_says_so(fake_gateway: FakeGateway, key_file: Path) -> None:
    url = fake_gateway.url.replace("http:", "https:")
    with pytest.raises(errors.GatewayUnreachable, match="no TLS"):
        client(url, key_file).info()
