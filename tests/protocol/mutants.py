"""Breaks the state machines one way at a time; the tests of each must notice every time.

Each ``mutants_*.py`` beside this file names the tests of a module (``TESTS``) and lists faults
(``MUTANTS``: file, old text that stands there once, new text). The package is copied, never
changed in place; the tests of the repository run against the copy.

    python tests/protocol/mutants.py [--check] [--only NAME] [--jobs N]
"""

from __future__ import annotations

import argparse
import ast
import os
import queue
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("kernel_provider", "gateway_ext")
TEST_TIMEOUT_S = 60
RUN_TIMEOUT_S = 600
PASSED, FAILED = 0, 1  # of pytest's exit codes, those that say that the tests did run


class Mutant(NamedTuple):
    """One fault: ``old`` becomes ``new`` in ``file``, and ``tests`` must fail."""

    group: str
    number: int
    tests: str
    file: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.group}[{self.number}] {self.file}"


def load_mutants(only: str) -> list[Mutant]:
    """The faults of all lists whose name begins with ``only``."""
    found = []
    for path in sorted(HERE.glob(f"mutants_{only}*.py")):
        fields = runpy.run_path(str(path))
        group = path.stem.removeprefix("mutants_")
        for number, (file, old, new) in enumerate(fields["MUTANTS"]):
            found.append(Mutant(group, number, fields["TESTS"], file, old, new))
    return found


def faults_of(mutant: Mutant) -> Iterator[str]:
    """What is wrong with the list itself."""
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    count = source.count(mutant.old)
    if count != 1:
        yield f"the old text stands there {count} times: {mutant.old!r}"
        return
    if mutant.old == mutant.new:
        yield f"nothing changes: {mutant.old!r}"
    try:
        ast.parse(source.replace(mutant.old, mutant.new), feature_version=(3, 8))
    except SyntaxError as exc:
        yield f"the result is no Python 3.8: {exc}"


class Workspace:
    """A copy of the packages that tests can run against."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ignored = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, directory / package, ignore=ignored)

    def run(self, tests: str) -> subprocess.CompletedProcess[str]:
        """Run the tests against the copy, up to the first failure."""
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(self._directory / name) for name in PACKAGES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self._directory / "hypothesis"),
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--hypothesis-seed=0", "--no-header"]
        command += ["-p", "no:cacheprovider", "--timeout", str(TEST_TIMEOUT_S), tests]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )

    def survives(self, mutant: Mutant) -> bool:
        """Whether the tests pass although the fault is there."""
        path = self._directory / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        try:
            result = self.run(mutant.tests)
        except subprocess.TimeoutExpired:
            return False  # it hangs, which nobody overlooks
        finally:
            path.write_text(source, encoding="utf-8")
        if result.returncode not in (PASSED, FAILED):
            raise SystemExit(f"{mutant.name}: the tests did not run\n{result.stdout[-2000:]}")
        return result.returncode == PASSED

    def check_baseline(self, tests_of: Mapping[str, str]) -> None:
        """Make sure that the tests pass without a fault and do see the copy.

        Args:
            tests_of: Tests, and a file that they test.

        Raises:
            SystemExit: they do not; nothing could be learned from the faults then.
        """
        for path in sorted(tests_of):
            result = self.run(path)
            if result.returncode != PASSED:
                raise SystemExit(f"{path} fails without any fault\n{result.stdout[-2000:]}")
        path, file = min(tests_of.items())
        broken = self._directory / file
        source = broken.read_text(encoding="utf-8")
        broken.write_text("raise RuntimeError('this is the copy')\n", encoding="utf-8")
        seen = self.run(path).stdout
        broken.write_text(source, encoding="utf-8")
        if "this is the copy" not in seen:
            raise SystemExit("the tests do not import the copied packages")


def run_all(mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Run every fault; returns those that the tests did not notice."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        workspaces: queue.Queue[Workspace] = queue.Queue()
        for number in range(jobs):
            workspaces.put(Workspace(Path(directory, str(number))))
        workspaces.queue[0].check_baseline({mutant.tests: mutant.file for mutant in mutants})

        def run(mutant: Mutant) -> bool:
            workspace = workspaces.get()
            try:
                return workspace.survives(mutant)
            finally:
                workspaces.put(workspace)

        survivors = []
        with ThreadPoolExecutor(jobs) as pool:
            for mutant, survived in zip(mutants, pool.map(run, mutants), strict=True):
                print("SURVIVED" if survived else "caught  ", mutant.name, flush=True)
                if survived:
                    survivors.append(mutant)
        return survivors


def main() -> int:
    """Run the faults; the exit code says whether all were noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only check the lists themselves")
    parser.add_argument("--only", default="", help="the list to run, for example journal")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    mutants = load_mutants(options.only)
    if not mutants:
        parser.error(f"there is no list mutants_{options.only}*.py")
    wrong = [f"{mutant.name}: {fault}" for mutant in mutants for fault in faults_of(mutant)]
    if wrong or options.check:
        print("\n".join(wrong) or f"{len(mutants)} mutants are well-formed")
        return bool(wrong)
    survivors = run_all(mutants, options.jobs)
    for mutant in survivors:
        print(f"\n{mutant.name} survived\n--- old\n{mutant.old}\n--- new\n{mutant.new}")
    print(f"\n{len(mutants) - len(survivors)} of {len(mutants)} mutants were caught")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
