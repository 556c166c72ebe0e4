"""What an installation gets: the built wheel, looked into."""

from __future__ import annotations

import email
import importlib
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

from clouditia.kernelspecs import LOGOS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"clouditia", "clouditia_gateway", "clouditia_magics", "clouditia_lab"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def info_file(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"clouditia-{PROJECT['version']}.dist-info/{name}").decode()


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == PACKAGES


def test_every_module_of_the_sources_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    sources = {
        path.relative_to(folder).as_posix()
        for folder in map(ROOT.__truediv__, ("kernel_provider", "gateway_ext", "magics"))
        for path in folder.rglob("*.py")
    }
    assert sources <= set(wheel.namelist())


def test_the_logos_of_the_kernelspecs_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert {f"clouditia/logos/{name}" for name in LOGOS} <= set(wheel.namelist())


def test_type_checkers_may_use_the_annotations_of_all_of_it(wheel: zipfile.ZipFile) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_no_test_cache_or_secret_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    odd = [
        name
        for name in wheel.namelist()
        if {"tests", "__pycache__", ".venv"} & set(name.split("/"))
        or Path(name).suffix in (".pyc", ".key", ".sqlite3", ".log")
    ]
    assert odd == []


def test_every_entry_point_is_there_and_can_be_loaded(wheel: zipfile.ZipFile) -> None:
    parser = ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(info_file(wheel, "entry_points.txt"))
    built = {group: dict(parser[group]) for group in parser.sections()}
    assert built == {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    for group in built.values():
        for target in group.values():
            module, _, name = target.partition(":")
            loaded = importlib.import_module(module)
            assert not name or hasattr(loaded, name), target


def test_license_readme_and_python_version_are_told(wheel: zipfile.ZipFile) -> None:
    metadata = email.message_from_string(info_file(wheel, "METADATA"))
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    assert "MIT License" in info_file(wheel, "licenses/LICENSE")
    assert str(metadata.get_payload()).startswith((ROOT / "README.md").read_text()[:100])


def test_torch_is_never_a_base_requirement(wheel: zipfile.ZipFile) -> None:
    metadata = email.message_from_string(info_file(wheel, "METADATA"))
    base = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    names = {text.split(">")[0].split(";")[0].strip() for text in base}
    assert names == {"websockets", "jupyter-client", "pyzmq", "nbformat", "platformdirs"}
