from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import pytest
from tests.unit.local.conftest import KEY, Answer, FakeGateway

from clouditia.cli import main
from clouditia.errors import ConfigError
from clouditia.kernelspecs import installed_specs
from clouditia.rest import GatewayClient
from clouditia.settings import config_dir, list_targets, load_target


def run(*arguments: str) -> int:
    return main(arguments)


def nothing_was_written() -> bool:
    return list_targets() == [] and installed_specs() == [] and not (config_dir() / "keys").exists()


def test_login_saves_the_target_its_key_and_its_kernelspecs(
    fake_gateway: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("login", fake_gateway.url + "/", "--name", "lab", "--key-file", str(key_file))
    target = load_target("lab")
    assert code == 0
    assert (target.url, target.read_key()) == (fake_gateway.url, KEY)
    assert [spec.name for spec in installed_specs("lab")] == [
        "clouditia-lab-bash",
        "clouditia-lab-python3",
    ]
    out, err = capsys.readouterr()
    assert out == ""
    assert "as ada" in err
    assert "clouditia run" in err


def test_login_as_json_is_one_object_on_stdout(
    fake_gateway: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("login", fake_gateway.url, "--name", "lab", "--key-file", str(key_file), "--json")
    data = json.loads(capsys.readouterr().out)
    assert (data["target"], data["user"]) == ("lab", "ada")
    assert data["kernelspecs"] == ["clouditia-lab-bash", "clouditia-lab-python3"]


def test_the_key_may_come_from_the_environment(
    fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDITIA_API_KEY", KEY)
    assert run("login", fake_gateway.url, "--name", "lab") == 0
    monkeypatch.delenv("CLOUDITIA_API_KEY")
    assert load_target("lab").read_key() == KEY


def test_without_key_and_terminal_login_says_what_to_do(
    fake_gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("login", fake_gateway.url, "--name", "lab") == 3
    assert "--key-file" in capsys.readouterr().err


def test_an_unknown_key_is_an_authentication_error_and_leaves_nothing(
    fake_gateway: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text("ck_other_key")
    assert run("login", fake_gateway.url, "--name", "lab", "--key-file", str(key_file)) == 3
    out, err = capsys.readouterr()
    assert "does not know this key" in err
    assert "ck_other" not in out + err
    assert nothing_was_written()


def test_a_key_of_another_product_never_leaves_this_machine(
    fake_gateway: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text("hf_secret")
    assert run("login", fake_gateway.url, "--name", "lab", "--key-file", str(key_file)) == 3
    assert fake_gateway.authorizations == [None]
    assert "hf_secret" not in capsys.readouterr().err


def test_a_key_of_a_gateway_is_never_sent_to_a_stock_server(
    stock_server: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("login", stock_server.url, "--name", "lab", "--key-file", str(key_file)) == 2
    assert set(stock_server.authorizations) == {None}
    assert "it was not sent" in capsys.readouterr().err
    assert nothing_was_written()


@pytest.mark.parametrize("tells_version", [True, False])
def test_a_stock_server_is_told_apart_and_what_it_lacks_is_said(
    stock_server: FakeGateway,
    key_file: Path,
    capsys: pytest.CaptureFixture[str],
    tells_version: bool,
) -> None:
    stock_server.is_open = tells_version
    key_file.write_text(stock_server.key)
    arguments = ("--name", "old", "--key-file", str(key_file), "--json")
    assert run("login", stock_server.url, *arguments) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["kind"] == "plain"
    assert "a stock server (jupyter_server 2.14)" in err
    assert "10 MiB" in err
    target = load_target("old")
    assert (target.kind, target.read_key()) == ("plain", stock_server.key)


def test_a_wrong_token_of_a_stock_server_is_an_authentication_error(
    stock_server: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text("wrong")
    assert run("login", stock_server.url, "--name", "old", "--key-file", str(key_file)) == 3
    assert "does not accept this token (403)" in capsys.readouterr().err
    assert nothing_was_written()


def test_a_stock_server_may_want_no_token(
    stock_server: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock_server.key = ""
    monkeypatch.setenv("CLOUDITIA_API_KEY", KEY)  # of another server: it must not be sent
    assert run("login", stock_server.url, "--name", "old", "--no-key") == 0
    assert load_target("old").read_key() == ""
    assert set(stock_server.authorizations) == {None}
    GatewayClient(load_target("old")).kernelspecs()
    assert set(stock_server.authorizations) == {None}


def test_any_other_web_server_is_no_target(
    stock_server: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_server.answers["GET /api"] = Answer(200, b"<html>")
    stock_server.is_open = True
    key_file.write_text(stock_server.key)
    assert run("login", stock_server.url, "--name", "old", "--key-file", str(key_file)) == 2
    assert "neither a Clouditia gateway nor a Jupyter server" in capsys.readouterr().err


def test_a_gateway_that_turns_into_a_stock_server_is_an_error_and_no_downgrade(
    fake_gateway: FakeGateway, key_file: Path
) -> None:
    run("login", fake_gateway.url, "--name", "lab", "--key-file", str(key_file))
    fake_gateway.is_stock = True
    with pytest.raises(ConfigError, match="not the Clouditia gateway that it was at login"):
        GatewayClient(load_target("lab")).list_kernels()


def test_an_unreachable_gateway_is_exit_code_6(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert run("login", url, "--name", "lab", "--key-file", str(key_file)) == 6
    assert "Check the URL" in capsys.readouterr().err
    assert nothing_was_written()


def test_plain_http_to_another_machine_is_refused_before_any_key_is_sent(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://gpu.example.invalid:8888"
    assert run("login", url, "--name", "lab", "--key-file", str(key_file)) == 2
    assert "not encrypted" in capsys.readouterr().err


def test_a_wrong_pin_is_named_and_leaves_nothing(
    tls_gateway: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--name", "lab", "--key-file", str(key_file), "--pin", "0a" * 32]
    assert run("login", tls_gateway.url, *arguments) == 2
    assert "not the pinned gateway" in capsys.readouterr().err
    assert nothing_was_written()


def test_a_ca_file_is_kept_as_an_absolute_path(
    tls_gateway: FakeGateway, key_file: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(certificate.parent)
    arguments = ["--name", "lab", "--key-file", str(key_file), "--ca-file", certificate.name]
    assert run("login", tls_gateway.url, *arguments) == 0
    assert load_target("lab").ca_file == certificate


def test_logging_in_again_replaces_the_target(fake_gateway: FakeGateway, key_file: Path) -> None:
    fake_gateway.answers["GET /p/clouditia/api/v1/info"] = Answer(200, {})
    fake_gateway.answers["GET /p/api/me"] = Answer(200, {})
    fake_gateway.answers["GET /p/api/kernelspecs"] = Answer(200, {"kernelspecs": {}})
    arguments = ["--name", "lab", "--key-file", str(key_file)]
    run("login", fake_gateway.url, *arguments)
    assert run("login", fake_gateway.url + "/p", *arguments) == 0
    assert [target.url for target in list_targets()] == [fake_gateway.url + "/p"]
    assert installed_specs() == []


def test_removing_the_target_removes_its_kernelspecs(
    fake_gateway: FakeGateway, key_file: Path
) -> None:
    run("login", fake_gateway.url, "--name", "lab", "--key-file", str(key_file))
    assert run("target", "remove", "lab") == 0
    assert list_targets() == []
    assert installed_specs() == []
