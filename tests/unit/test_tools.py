"""The project's own tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TABLE = """
| ID | Claim | Check |
|---|---|---|
| C1 | passes | x |
| C2 | fails once | x |
| G3 | is skipped | x |
| D4 | has no test | x |
| B5 | needs none | x |
"""
REPORT = """<testsuites><testsuite>
<testcase name="test_row[C1]"/>
<testcase name="test_row[C2-again]"/>
<testcase name="test_row[C2]"><failure message="boom"/></testcase>
<testcase name="test_row[G3]"><skipped message="no GPU here"/></testcase>
<testcase name="test_rowing[D4]"/>
</testsuite></testsuites>"""


def _tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_rows_without_a_passing_test_are_printed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "features.md").write_text(TABLE)
    (tmp_path / "junit.xml").write_text(REPORT)
    files = ["--features", str(tmp_path / "features.md"), "--report", str(tmp_path / "junit.xml")]
    printed = _tool("rows.py", *files).stdout.splitlines()
    assert [line.split()[:2] for line in printed[:3]] == [
        ["C2", "failed"],
        ["G3", "skipped"],
        ["D4", "no"],
    ]
    assert "no GPU here" in printed[1]
    assert printed[3] == "1 of 4 rows have a passing test"
    assert _tool("rows.py", *files, "--strict").returncode == 1


def test_rows_says_when_there_is_no_report(tmp_path: Path) -> None:
    done = _tool("rows.py", "--report", str(tmp_path / "none.xml"))
    assert done.returncode == 1
    assert "run `make test` first" in done.stderr


@pytest.mark.parametrize("tool", ["check_links.py", "cli_reference.py", "front_end_table.py"])
def test_the_pages_are_true(tool: str) -> None:
    arguments = [] if tool == "check_links.py" else ["--check"]
    done = _tool(tool, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_is_committed_without_outputs() -> None:
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        assert '"outputs": []' in text
        assert '"output_type"' not in text


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_shows_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
