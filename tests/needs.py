"""What a test needs of the machine: a skip with the reason where it is missing, in CI a failure."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent


def program(*names: str) -> str:
    """Path of the first of several programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or _missing(f"the program {' or '.join(names)}")


def modules(*names: str) -> None:
    """Importable modules; does not import them."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            _missing(f"the Python module {name}")


def library(*paths: str) -> Path:
    """The first of several files that is there."""
    found = next(filter(Path.is_file, map(Path, paths)), None)
    return found or _missing(f"{Path(paths[0]).name} (Debian: the package faketime)")


def folder(path: str, made_by: str) -> Path:
    """A folder below the repository's root that a make target prepares."""
    if not (ROOT / path).is_dir():
        _missing(f"{path} ({made_by})")
    return ROOT / path


def _missing(what: str) -> NoReturn:
    # In CI everything can be installed, so that a skip there would hide a missing install step.
    if os.environ.get("CI"):
        pytest.fail(f"this test needs {what}; .ci/run must install it")
    pytest.skip(f"this test needs {what}")
