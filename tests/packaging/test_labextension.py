"""The built JupyterLab extension: not older than its sources, and in the wheel once."""

from __future__ import annotations

import hashlib
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "labextension"
BUILT = SOURCES / "clouditia_lab" / "labextension"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHARED = f"clouditia-{PROJECT['version']}.data/data/share/jupyter/labextensions/clouditia-lab"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def names(wheel: zipfile.ZipFile) -> list[str]:
    """Of the files in the wheel."""
    return wheel.namelist()


def test_the_built_files_are_those_of_the_sources() -> None:
    digest = hashlib.sha256()
    files = ["package.json", "package-lock.json", "tsconfig.json"]
    files += [f"src/{path.name}" for path in (SOURCES / "src").iterdir()]
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes() + b"\0")
    build = "cd labextension && npm ci --ignore-scripts && npm run build"
    assert read(BUILT / "stamp.json") == {"sources": digest.hexdigest()}, build


def test_what_jupyterlab_is_told_to_load_is_there() -> None:
    load = read(BUILT / "package.json")["jupyterlab"]["_build"]["load"]
    assert load in [path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*.js")]


def test_the_extension_has_the_version_of_the_distribution() -> None:
    assert Version(read(SOURCES / "package.json")["version"]) == Version(PROJECT["version"])
    assert read(BUILT / "package.json")["version"] == read(SOURCES / "package.json")["version"]


def test_the_lock_names_no_registry() -> None:
    packages = read(SOURCES / "package-lock.json")["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in packages.items() if name)


def test_the_built_files_name_no_folder_of_the_machine_that_built_them() -> None:
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    assert [path for path in files if str(ROOT).encode() in path.read_bytes()] == []


def test_the_wheel_has_every_built_file_once(names: list[str]) -> None:
    built = {path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*") if path.is_file()}
    found = {name.removeprefix(f"{SHARED}/") for name in names if name.startswith(SHARED)}
    assert found == built | {"install.json"}
    for name in built:
        file = Path(name).name
        if file.endswith(".js"):
            assert len([each for each in names if each.endswith(f"/{file}")]) == 1


def test_the_wheel_has_nothing_that_only_the_build_needs(names: list[str]) -> None:
    assert [name for name in names if name.endswith((".ts", ".mjs", "package-lock.json"))] == []
