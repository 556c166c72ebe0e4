from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import pytest
from tests.unit.local.conftest import FakeGateway

from clouditia.errors import ConfigError
from clouditia.transport.tls import (
    PinMismatch,
    client_context,
    is_loopback,
    normalize_pin,
    policy_for,
)


def pin_of(certificate: Path) -> str:
    pem = certificate.read_text()
    start = pem.index("-----BEGIN CERTIFICATE")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[start:])).hexdigest()


def port_of(gateway: FakeGateway) -> int:
    return int(gateway.url.rpartition(":")[2])


def test_pins_are_taken_in_the_forms_that_tools_print() -> None:
    plain = "0a" * 32
    colons = ":".join(["0A"] * 32)
    assert {normalize_pin(form) for form in (plain, f"sha256:{plain}", colons)} == {plain}


@pytest.mark.parametrize("pin", ["", "0a", "zz" * 32, "sha1:" + "0a" * 20])
def test_what_is_no_pin_is_refused(pin: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        normalize_pin(pin)


def test_a_pinned_asyncio_connection_works_with_the_right_certificate(
    tls_gateway: FakeGateway, certificate: Path
) -> None:
    policy = client_context(pin=pin_of(certificate))

    async def connect() -> None:
        _, writer = await asyncio.open_connection(
            "localhost", port_of(tls_gateway), ssl=policy.context
        )
        policy.check(writer.get_extra_info("ssl_object"))
        writer.close()
        await writer.wait_closed()

    asyncio.run(connect())


def test_the_context_alone_refuses_another_certificate(tls_gateway: FakeGateway) -> None:
    """Nobody has to remember to check: the handshake itself fails."""
    policy = client_context(pin="0a" * 32)

    async def connect() -> None:
        await asyncio.open_connection("localhost", port_of(tls_gateway), ssl=policy.context)

    with pytest.raises(PinMismatch, match="the pin says 0a0a"):
        asyncio.run(connect())
    assert tls_gateway.requests == []


def test_a_ca_file_and_a_pin_exclude_each_other(certificate: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        client_context(certificate, "0a" * 32)


def test_a_ca_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        client_context(path)
    with pytest.raises(ConfigError, match="absent"):
        client_context(tmp_path / "absent")


@pytest.mark.parametrize("url", ["http://gpu.example", "http://10.0.0.1:8888", "ws://gpu.example"])
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not encrypted"):
        policy_for(url)


def test_plain_http_to_this_machine_needs_no_tls() -> None:
    assert policy_for("http://127.0.0.1:8888/x") is None
    with pytest.raises(ConfigError, match="needs https"):
        policy_for("http://127.0.0.1:8888/x", pin="0a" * 32)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
