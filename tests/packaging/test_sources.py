"""Rules that every tracked file keeps: grammar, size, and nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = ROOT / "kernel_provider" / "clouditia"
MAX_LINES = 400
#: These run as source inside remote kernels too, on any Python from 3.8 on.
CARRIED = [PROVIDER / "errors.py", *sorted((PROVIDER / "protocol").glob("*.py"))]
#: In the standard library of today, not in that of Python 3.8.
NEWER = {"graphlib", "tomllib", "zoneinfo"}
#: A folder below somebody's home or workplace; the user ``gpu`` of the manual is an example.
MACHINE_PATH = re.compile(r"(?<![\w:.*<>-])/(?:home|Users|root|work|builds)/(?!gpu/)[\w.-]+/")
REGISTRY = re.compile(
    r"https?://[^\s/\"'`)]*(?:pypi|pythonhosted|npmjs|artifactory|nexus|registry|mirror|anaconda)",
    re.IGNORECASE,
)
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".ipynb", ".cfg", ".txt", ".sh", ""}

carried = pytest.mark.parametrize("path", CARRIED, ids=lambda path: path.name)


def tracked(*patterns: str) -> list[Path]:
    """Files under version control that are there now."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is not known")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@carried
def test_what_remote_kernels_run_is_in_the_grammar_of_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@carried
def test_what_remote_kernels_run_needs_no_library(path: Path) -> None:
    allowed = (sys.stdlib_module_names - NEWER) | {"clouditia"}
    for name in imported_by(ast.parse(path.read_text())):
        assert name.split(".")[0] in allowed, name
        if name.startswith("clouditia"):
            assert name.startswith(("clouditia.errors", "clouditia.protocol")), name


@carried
def test_what_remote_kernels_run_subscripts_no_builtin_type_outside_annotations(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not set(imported_by(tree)) or "__future__" in set(imported_by(tree))
    builtin = {"list", "dict", "tuple", "set", "frozenset", "type"}
    for node in evaluated(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in builtin, f"line {node.lineno}"


def imported_by(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node.module or ""


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but annotations, which are never evaluated, and fields of named tuples are."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.AnnAssign) and child is tree.annotation:
            continue
        if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)) and child is tree.returns:
            continue
        if isinstance(tree, ast.arg):
            continue
        yield child
        yield from evaluated(child)


@pytest.mark.parametrize("folder", ["kernel_provider", "gateway_ext", "magics", "bench", "tools"])
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked(f"{folder}/*.py")
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_tracked_file_holds_a_path_of_one_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        if path.suffix in TEXT and path != Path(__file__).resolve():
            text = path.read_text(errors="replace")
            for rule in (MACHINE_PATH, REGISTRY):
                found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in rule.finditer(text)]
    assert found == []


def test_no_tracked_file_is_large() -> None:
    limit = 1024 * 1024
    assert [path for path in tracked() if path.stat().st_size > limit] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("see /work/main/README", True),
        ("/home/ada/.cache/x", True),
        ("C:/work/a.ipynb/b", False),
        ('"/home/g"', False),
        ("<state>/work/x/", False),
    ],
)
def test_the_rule_for_paths_finds_what_it_should(text: str, is_found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is is_found
