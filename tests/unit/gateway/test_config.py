from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clouditia.atomic_files import write_private
from clouditia.errors import ConfigError
from clouditia_gateway.config import GatewayConfig, normal_base_url, server_tls
from clouditia_gateway.state_dir import StateDir

STATE = Path("/s")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gpu.example.org", "", "127.evil"])
def test_no_address_beyond_loopback_without_tls(host: str) -> None:
    with pytest.raises(ConfigError, match="without TLS"):
        GatewayConfig(STATE, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert GatewayConfig(STATE, host=host).scheme == "http"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": -1}, "0 to 65535"),
        ({"port": 65536}, "0 to 65535"),
        ({"base_url": "/a b/"}, "plain URL path"),
        ({"base_url": "/a(.*)/"}, "plain URL path"),
        ({"tls_cert": Path("c")}, "belong together"),
        ({"simulate_gpus": "two"}, "COUNTxMODEL"),
        ({"simulate_gpus": "0xH100:80GiB"}, "COUNTxMODEL"),
        ({"kernels_per_user": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GatewayConfig(STATE, **options)


def test_simulated_gpus_are_accepted() -> None:
    assert GatewayConfig(STATE, simulate_gpus="2xH100:80GiB,1xA100").simulate_gpus


@pytest.mark.parametrize(
    ("given", "normal"), [("", "/"), ("/", "/"), ("a", "/a/"), ("/a/b", "/a/b/")]
)
def test_base_urls_get_their_slashes(given: str, normal: str) -> None:
    assert normal_base_url(given) == normal


def test_urls_for_people_and_for_hosts() -> None:
    tls: dict[str, Any] = {"tls_cert": Path("c"), "tls_key": Path("k")}
    config = GatewayConfig(STATE, host="0.0.0.0", base_url="/x/", **tls)
    assert config.host_url(1) == "https://127.0.0.1:1/x"
    assert GatewayConfig(STATE, host="::1").url(2) == "http://[::1]:2"
    assert GatewayConfig(STATE, host="10.0.0.1", **tls).host_url(3) == "https://10.0.0.1:3"


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    config = GatewayConfig(STATE, tls_cert=tmp_path / "c", tls_key=tmp_path / "k")
    with pytest.raises(ConfigError, match="cannot use the certificate"):
        server_tls(config)


def test_a_second_gateway_on_a_state_directory_is_told_who_is_there(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    first.prepare()
    first.lock()
    first.write_gateway_file({"pid": 4711, "url": "http://127.0.0.1:9"})
    assert second.is_locked_by_another()
    with pytest.raises(ConfigError, match=r"already runs .*4711, http://127.0.0.1:9"):
        second.lock()
    first.unlock()
    first.unlock()
    second.lock()
    second.unlock()
    assert not first.is_locked_by_another()


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        StateDir(path).prepare()


def test_the_state_directory_is_private_even_if_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    StateDir(tmp_path / "s").prepare()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_private(path, "{}")
    write_private(path, json.dumps({"a": 1}))
    assert json.loads(path.read_text()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
