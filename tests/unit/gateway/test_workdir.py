from __future__ import annotations

from pathlib import Path

import pytest

from clouditia.errors import ConfigError, PathNotAllowed
from clouditia_gateway.workdir import checked_path, working_directory


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        (None, ""),
        ("", ""),
        ("/", ""),
        ("a/b.ipynb", "a/b.ipynb"),
        ("/a//b/./c", "a/b/c"),
        ("C:\\work\\a.ipynb", "C:/work/a.ipynb"),
    ],
)
def test_paths_become_relative_and_plain(given: object, normal: str) -> None:
    assert checked_path(given) == normal


@pytest.mark.parametrize("path", ["..", "a/../..", "..\\x", "/../etc", "a/.."])
def test_dots_that_climb_are_refused(path: str) -> None:
    with pytest.raises(PathNotAllowed):
        checked_path(path)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000, 3, ["a"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(ConfigError):
        checked_path(path)


def test_the_deepest_folder_that_exists_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "nb.ipynb").touch()
    assert working_directory(tmp_path, "a/b/c/d.ipynb") == tmp_path / "a" / "b"
    assert working_directory(tmp_path, "a/nb.ipynb") == tmp_path / "a"
    assert working_directory(tmp_path, "nowhere/x") == tmp_path
    assert working_directory(tmp_path, "") == tmp_path


def test_a_link_out_of_the_root_is_refused_and_a_twin_prefix_is_out(tmp_path: Path) -> None:
    root, twin = tmp_path / "data", tmp_path / "data-secret"
    root.mkdir()
    twin.mkdir()
    (root / "link").symlink_to(twin)
    (root / "inside").mkdir()
    (root / "loop").symlink_to(root / "inside")
    with pytest.raises(PathNotAllowed):
        working_directory(root, "link/nb.ipynb")
    assert working_directory(root, "loop/nb.ipynb") == root / "inside"


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="root directory"):
        working_directory(tmp_path / "gone", "")
