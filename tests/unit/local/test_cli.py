from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.local.conftest import KEY, SPECS, Answer, FakeGateway

from clouditia.cli import main
from clouditia.kernelspecs import installed_specs, sync_specs
from clouditia.settings import Target, save_target, store_key


@pytest.fixture
def lab(fake_gateway: FakeGateway) -> FakeGateway:
    """A saved target ``lab`` with two kernels on it."""
    save_target(Target("lab", fake_gateway.url, key_file=store_key("lab", KEY)))
    kernels = [
        {
            "id": kernel_id,
            "name": "python3",
            "execution_state": "busy",
            "connections": 1,
            "last_activity": "2026-01-02T03:04:05Z",
            "clouditia": {"reachable": kernel_id != "abcd-2"},
        }
        for kernel_id in ("abcd-1", "abcd-2")
    ]
    fake_gateway.answers["GET /api/kernels"] = Answer(200, kernels)
    fake_gateway.answers["DELETE /api/kernels/abcd-2"] = Answer(204, b"")
    return fake_gateway


def imported_by(*arguments: str) -> set[str]:
    code = (
        "import sys; from clouditia.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_help_names_every_command_and_loads_none() -> None:
    loaded = imported_by("--help")
    assert "clouditia.cli.run" not in loaded
    assert not any(name.startswith("clouditia_gateway") for name in loaded)
    assert not loaded & {"jupyter_client", "zmq", "websockets", "nbclient", "traitlets"}


def test_a_command_loads_no_other_one() -> None:
    loaded = imported_by("target", "list")
    assert "clouditia.cli.target" in loaded
    assert not loaded & {"clouditia.cli.run", "zmq", "websockets", "nbclient"}


def test_commands_of_other_packages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "gateway" in text
    assert "keys" in text


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["lgin"])
    assert caught.value.code == 2
    assert "login" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "COMMAND" in capsys.readouterr().out


def test_errors_are_one_sentence_and_a_next_step_without_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["kernels", "list", "--target", "lob"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no target 'lob'" in err
    assert "clouditia login" in err
    assert "Traceback" not in err


def test_errors_as_json_are_the_wire_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "kernels", "list", "--target", "lob"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "config"


def test_kernels_are_listed_with_their_state(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernels", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["abcd-1", "lab", "python3", "busy", "1", "2026-01-02", "03:04:05"]
    assert "busy (host away)" in lines[2]


def test_a_kernel_is_stopped_by_the_beginning_of_its_id(lab: FakeGateway) -> None:
    assert main(["kernels", "stop", "abcd-2"]) == 0
    assert ("DELETE", "/api/kernels/abcd-2", None) in lab.requests


def test_an_ambiguous_id_stops_nothing(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernels", "stop", "abc"]) == 2
    assert "several kernels" in capsys.readouterr().err
    assert not any(method == "DELETE" for method, _, _ in lab.requests)


def test_an_unknown_kernel_is_exit_code_5(lab: FakeGateway) -> None:
    assert main(["kernels", "stop", "zzz"]) == 5


def test_a_kernel_may_be_named_by_its_url(lab: FakeGateway) -> None:
    url = f"{lab.url}/api/kernels/abcd-2/channels?token=x"
    assert main(["kernels", "stop", url]) == 0
    assert main(["kernels", "stop", "https://other.example/api/kernels/abcd-2"]) == 5


def test_a_silent_gateway_does_not_hide_the_kernels_of_others(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    save_target(Target("away", "http://127.0.0.1:9", key_file=store_key("away", KEY)))
    assert main(["kernels", "list"]) == 0
    out, err = capsys.readouterr()
    assert "abcd-1" in out
    assert "left out" in err


def test_kernelspecs_are_synced_listed_and_removed(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernelspec", "sync"]) == 0
    capsys.readouterr()
    assert main(["kernelspec", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(spec["name"], spec["state"]) for spec in listed] == [
        ("clouditia-lab-bash", "ok"),
        ("clouditia-lab-python3", "ok"),
    ]
    assert main(["kernelspec", "remove", "--name", "clouditia-lab-bash"]) == 0
    assert [spec.name for spec in installed_specs()] == ["clouditia-lab-python3"]


def test_a_running_kernel_gets_a_kernelspec_that_a_sync_keeps_until_the_kernel_has_ended(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "clouditia-lab-attach-abcd-1"
    model = {"id": "abcd-1", "name": "python3", "execution_state": "busy"}
    lab.answers["GET /api/kernels/abcd-1"] = Answer(200, model)
    assert main(["kernelspec", "attach", "abcd-1"]) == 0
    assert f"jupyter console --kernel {name}" in capsys.readouterr().err
    (spec,) = installed_specs("lab")
    assert (spec.name, spec.kernel_id) == (name, "abcd-1")
    assert spec.display_name == "Python 3 · lab · running abcd-1"
    assert spec.argv[1:] == (
        *("--target", "lab", "--kernel", "python3", "--attach", "abcd-1"),
        *("-f", "{connection_file}"),
    )
    for answer in (Answer(200, model), Answer(503, {"code": "gateway_unreachable"})):
        lab.answers["GET /api/kernels/abcd-1"] = answer
        assert main(["kernelspec", "sync"]) == 0
        assert name in [spec.name for spec in installed_specs()]
    lab.answers["GET /api/kernels/abcd-1"] = Answer(404, {"code": "kernel_not_found"})
    assert main(["kernelspec", "list"]) == 0
    assert "its kernel has ended" in capsys.readouterr().out
    assert main(["kernelspec", "sync"]) == 0
    assert name not in [spec.name for spec in installed_specs()]


def test_a_kernelspec_of_another_kernel_is_not_taken_for_a_running_one(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    sync_specs("lab", SPECS)
    for name in ("clouditia-lab-python3", "no/name"):
        assert main(["kernelspec", "attach", "abcd-1", "--name", name]) == 2
        assert "Choose another --name" in capsys.readouterr().err
    assert all(spec.kernel_id is None for spec in installed_specs())


def test_doctor_is_content_with_a_good_installation(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    sync_specs("lab", SPECS)
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    statuses = {finding["subject"]: finding["status"] for finding in findings}
    assert statuses["target lab"] == "ok"
    assert "target lab, kernelspecs" not in statuses


def test_doctor_knows_a_stock_server_and_notices_when_it_has_become_a_gateway(
    stock_server: FakeGateway, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text(stock_server.key)
    main(["login", stock_server.url, "--name", "old", "--key-file", str(key_file)])
    capsys.readouterr()
    assert main(["doctor"]) == 0
    assert "a stock server (jupyter_server 2.14)" in capsys.readouterr().out
    stock_server.is_stock = False
    main(["doctor"])
    assert "has become a Clouditia gateway" in capsys.readouterr().out


def test_doctor_finds_a_bad_key_and_stale_kernelspecs(
    lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 0
    assert any(
        finding["subject"] == "target lab, kernelspecs" and "2 missing" in finding["text"]
        for finding in json.loads(capsys.readouterr().out)
    )
    store_key("lab", "ck_old_key")
    assert main(["doctor"]) == 1
    assert "does not know this key" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["absent.ipynb", "notes.txt"])
def test_run_refuses_what_it_cannot_run(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert main(["run", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err


def test_run_refuses_a_folder_that_does_not_exist_before_anything_starts(
    tmp_path: Path, lab: FakeGateway
) -> None:
    script = tmp_path / "a.py"
    script.write_text("1")
    assert main(["run", str(script), "-o", str(tmp_path / "no" / "out.ipynb")]) == 2
    assert lab.requests == []


def test_several_targets_must_be_chosen_from(
    tmp_path: Path, lab: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    save_target(Target("other", lab.url))
    script = tmp_path / "a.py"
    script.write_text("1")
    assert main(["run", str(script)]) == 2
    assert "--target" in capsys.readouterr().err


def test_a_kernel_is_found_by_its_whole_id_where_the_server_lists_nothing(
    stock_server: FakeGateway, key_file: Path
) -> None:
    kernel_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    stock_server.answers["GET /api/kernels"] = Answer(403, {"message": "Forbidden"})
    stock_server.answers[f"GET /api/kernels/{kernel_id}"] = Answer(200, {"id": kernel_id})
    stock_server.answers[f"DELETE /api/kernels/{kernel_id}"] = Answer(204, b"")
    key_file.write_text(stock_server.key)
    main(["login", stock_server.url, "--name", "old", "--key-file", str(key_file)])
    url = f"{stock_server.url}/api/kernels/{kernel_id}"
    for wanted in (kernel_id, url):
        assert main(["kernels", "stop", wanted]) == 0
    stopped = [request for request in stock_server.requests if request[0] == "DELETE"]
    assert len(stopped) == 2
    assert main(["kernels", "stop", kernel_id[:8]]) == 4
