"""What importing a part loads, judged by the modules and not by the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"clouditia": ROOT / "kernel_provider", "clouditia_gateway": ROOT / "gateway_ext"}
PROTOCOL_ONLY = ("clouditia.protocol", "clouditia.errors")
JUPYTER = {"jupyter_client", "jupyter_server", "jupyter_core", "tornado", "traitlets", "IPython"}
_CODE = """
import importlib, json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(*modules: str) -> set[str]:
    """Full names of the modules that a fresh Python loads for ``modules``."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *modules],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def distributions(modules: set[str]) -> set[str]:
    """The top-level names that are not of the standard library."""
    tops = {name.split(".")[0] for name in modules}
    return tops - sys.stdlib_module_names - {"__mp_main__"}


def modules_of(package: str) -> list[str]:
    """Every module of a package that this system can import."""
    root = SOURCES[package.split(".")[0]]
    folder = root.joinpath(*package.split("."))
    paths = sorted(folder.rglob("*.py"))
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    left_out = ("__main__", "parent_windows")  # runs at import; needs Windows
    return [name.removesuffix(".__init__") for name in names if not name.endswith(left_out)]


def test_import_clouditia_loads_only_itself() -> None:
    loaded = loaded_by("clouditia")
    assert distributions(loaded) == {"clouditia"}
    assert not loaded & {"asyncio", "ssl", "socket", "http.client", "subprocess", "logging"}


def test_the_errors_load_nothing_but_the_standard_library() -> None:
    assert distributions(loaded_by("clouditia.errors")) == {"clouditia"}


def test_the_protocol_loads_nothing_but_the_standard_library_and_no_io() -> None:
    loaded = loaded_by(*modules_of("clouditia.protocol"))
    assert distributions(loaded) == {"clouditia"}
    assert not loaded & {"asyncio", "socket", "ssl", "selectors", "subprocess"}
    ours = {name for name in loaded if name.startswith("clouditia.")}
    assert {name for name in ours if not name.startswith(PROTOCOL_ONLY)} == set()


def test_the_command_line_begins_without_a_library() -> None:
    assert distributions(loaded_by("clouditia.cli", "clouditia.cli.app")) == {"clouditia"}


def test_the_bridge_begins_to_start_the_kernel_before_it_loads_a_library() -> None:
    loaded = loaded_by("clouditia.bridge.process")
    assert distributions(loaded) == {"clouditia"}
    assert not loaded & {"asyncio", "ssl"}


def test_no_module_of_the_bridge_loads_jupyter() -> None:
    found = distributions(loaded_by(*modules_of("clouditia.bridge")))
    assert found & JUPYTER == set()
    assert found >= {"clouditia", "zmq", "websockets"}  # it is the whole of it that was loaded


def test_the_kernel_host_starts_its_kernel_before_it_loads_a_library() -> None:
    loaded = loaded_by("clouditia_gateway.host", "clouditia_gateway.host.launch")
    assert distributions(loaded) <= {"clouditia", "clouditia_gateway"}
    assert not loaded & {"asyncio", "ssl", "logging"}


def test_no_module_of_the_kernel_host_loads_jupyter() -> None:
    found = distributions(loaded_by(*modules_of("clouditia_gateway.host")))
    assert found & JUPYTER == set()
    assert found >= {"clouditia_gateway", "zmq", "websockets"}


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_nothing_loads_torch_or_numpy(package: str) -> None:
    modules = [name for name in modules_of(package) if ".testing" not in name]
    assert distributions(loaded_by(*modules)) & {"torch", "numpy", "matplotlib", "pytest"} == set()
