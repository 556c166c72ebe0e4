from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from clouditia.kernelspecs import installed_specs, kernels_dir, remove_specs, sync_specs


def model(**titles: str) -> dict[str, Any]:
    return {
        "kernelspecs": {
            name: {
                "name": name,
                "spec": {
                    "display_name": title,
                    "language": "python",
                    "metadata": {"debugger": True},
                },
            }
            for name, title in titles.items()
        }
    }


def read(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((kernels_dir() / name / "kernel.json").read_text())
    return spec


def test_a_kernelspec_has_what_every_front_end_needs() -> None:
    report = sync_specs("lab", model(python3="Python 3 (ipykernel)"))
    spec = read("clouditia-lab-python3")
    program = spec["argv"].pop(0)
    assert report.written == ["clouditia-lab-python3"]
    assert Path(program).is_absolute()
    assert Path(program).stem == "clouditia-kernel"
    assert spec == {
        "argv": ["--target", "lab", "--kernel", "python3", "-f", "{connection_file}"],
        "display_name": "Python 3 · lab",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {
            "debugger": True,
            "supported_encryption": "curve",
            "clouditia": {"target": "lab", "kernel": "python3", "managed": True},
            "kernel_provisioner": {"provisioner_name": "clouditia-provisioner"},
        },
    }


def test_its_logos_are_where_jupyter_looks_for_them() -> None:
    sync_specs("lab", model(python3="Python 3"))
    resources = KernelSpecManager().get_all_specs()["clouditia-lab-python3"]["resource_dir"]
    found = {path.name: path.read_bytes() for path in Path(resources).glob("logo-*")}
    assert set(found) == {"logo-svg.svg", "logo-64x64.png", "logo-32x32.png"}
    assert found["logo-svg.svg"].startswith(b"<svg")
    for size in (32, 64):
        png = found[f"logo-{size}x{size}.png"]
        assert struct.unpack(">II", png[16:24]) == (size, size)


def test_a_kernelspec_of_an_earlier_version_gets_its_logos() -> None:
    sync_specs("lab", model(python3="Python 3"))
    logo = kernels_dir() / "clouditia-lab-python3" / "logo-64x64.png"
    logo.unlink()
    assert sync_specs("lab", model(python3="Python 3")).written == ["clouditia-lab-python3"]
    assert logo.is_file()


def test_jupyter_finds_it_with_our_provisioner() -> None:
    sync_specs("lab", model(python3="Python 3"))
    spec = KernelSpecManager().get_kernel_spec("clouditia-lab-python3")
    assert spec.display_name == "Python 3 · lab"


def test_without_provisioner_a_foreign_python_lists_it_too() -> None:
    sync_specs("lab", model(python3="Python 3"), provisioner=False)
    assert "kernel_provisioner" not in read("clouditia-lab-python3")["metadata"]


def test_titles_that_repeat_are_told_apart() -> None:
    sync_specs("lab", model(a="Python 3", b="Python 3", c="R"))
    titles = {spec.display_name for spec in installed_specs("lab")}
    assert titles == {"Python 3 · lab (a)", "Python 3 · lab (b)", "R · lab"}


def test_a_second_sync_changes_nothing() -> None:
    sync_specs("lab", model(python3="Python 3"))
    report = sync_specs("lab", model(python3="Python 3"))
    assert (report.written, report.unchanged) == ([], ["clouditia-lab-python3"])


def test_kernels_that_left_the_gateway_leave_here_too_and_only_those() -> None:
    sync_specs("lab", model(a="A", b="B"))
    sync_specs("other", model(a="A"))
    mine = kernels_dir() / "clouditia-lab-mine"
    mine.mkdir()
    (mine / "kernel.json").write_text('{"argv": ["x"], "display_name": "mine"}')
    report = sync_specs("lab", model(b="B"))
    assert report.removed == ["clouditia-lab-a"]
    assert {path.name for path in kernels_dir().iterdir()} == {
        "clouditia-lab-b",
        "clouditia-lab-mine",
        "clouditia-other-a",
    }


def test_a_spec_of_somebody_else_is_not_overwritten() -> None:
    foreign = kernels_dir() / "clouditia-lab-a" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["x"], "display_name": "mine"}')
    report = sync_specs("lab", model(a="A"))
    assert "belongs to something else" in report.skipped["clouditia-lab-a"]
    assert json.loads(foreign.read_text())["display_name"] == "mine"


def test_two_targets_whose_names_run_together_do_not_overwrite_each_other() -> None:
    sync_specs("a", model(**{"b-c": "X"}))
    report = sync_specs("a-b", model(c="Y"))
    assert list(report.skipped) == ["clouditia-a-b-c"]


def test_names_that_jupyter_forbids_are_left_out_with_the_reason() -> None:
    report = sync_specs("lab", model(**{"c++": "C++", "../x": "X", "ok": "O"}))
    assert report.written == ["clouditia-lab-ok"]
    assert set(report.skipped) == {"clouditia-lab-c++", "clouditia-lab-../x"}


def test_no_spec_holds_a_url_or_a_key() -> None:
    sync_specs("lab", model(python3="Python 3"))
    text = (kernels_dir() / "clouditia-lab-python3" / "kernel.json").read_text()
    assert "://" not in text
    assert "ck_" not in text


def test_a_server_that_lists_our_own_specs_among_its_kernels_is_not_offered_twice() -> None:
    sync_specs("old", model(python3="Python 3"))
    listed = model(python3="Python 3")
    listed["kernelspecs"]["clouditia-old-python3"] = {"spec": read("clouditia-old-python3")}
    report = sync_specs("old", listed)
    assert (report.unchanged, report.written) == (["clouditia-old-python3"], [])


def test_removing_removes_the_folders() -> None:
    sync_specs("lab", model(a="A", b="B"))
    assert remove_specs(installed_specs("lab")) == ["clouditia-lab-a", "clouditia-lab-b"]
    assert list(kernels_dir().iterdir()) == []


def test_answers_of_odd_form_yield_no_specs() -> None:
    answers: list[dict[str, Any]] = [
        {},
        {"kernelspecs": []},
        {"kernelspecs": {"a": 1, "b": {"spec": "x"}}},
    ]
    for odd in answers:
        assert sync_specs("lab", odd).written == []
