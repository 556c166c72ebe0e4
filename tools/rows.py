"""Print every feature row without a passing test (``make rows``).

The rows are those of ``docs/features.md`` or of another table (``--features``): every table line
whose first column is an id such as C102. The results come from a pytest JUnit report; a row counts
as passed when at least one test with its id passed and none failed. Skips do not count.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
PREFIXES_WITH_TESTS = "CKSULXDGM"
ROW_LINE = re.compile(r"^\|\s*([A-Z])(\d+)\s*\|\s*(.*?)\s*\|", re.MULTILINE)
ROW_TEST = re.compile(r"test_row\[([A-Z]\d+)(?:-[^\]]*)?\]")
CLAIM_WIDTH = 90


@dataclass
class RowResult:
    """What the report says about one row."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reason: str = ""

    @property
    def state(self) -> str:
        """The worst that happened, ``passed`` only if nothing else did."""
        for outcome in ("failed", "passed", "skipped"):
            if self.outcomes[outcome]:
                return outcome
        return "no test"


def main() -> int:
    """Print the open rows; exit 1 when there are some and ``--strict`` was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, default=ROOT / "docs" / "features.md")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "junit.xml")
    parser.add_argument("--strict", action="store_true", help="fail when a row is open")
    options = parser.parse_args()
    rows = read_rows(options.features.read_text(encoding="utf-8"))
    if not options.report.is_file():
        sys.exit(f"there is no test report at {options.report}: run `make test` first")
    results = read_results(options.report)
    open_rows = {row: claim for row, claim in rows.items() if _state(results, row) != "passed"}
    for row, claim in open_rows.items():
        print(_line(row, claim, results.get(row, RowResult())))
    print(f"{len(rows) - len(open_rows)} of {len(rows)} rows have a passing test")
    return 1 if options.strict and open_rows else 0


def read_rows(table: str) -> dict[str, str]:
    """Ids and claims, in the order of the page; an id that comes twice keeps its first claim."""
    rows: dict[str, str] = {}
    for prefix, number, claim in ROW_LINE.findall(table):
        if prefix in PREFIXES_WITH_TESTS:
            rows.setdefault(prefix + number, claim)
    return rows


def read_results(report: Path) -> dict[str, RowResult]:
    """Results by row id from a JUnit report."""
    results: dict[str, RowResult] = {}
    # The report was written by our own pytest run a moment ago.
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        match = ROW_TEST.search(case.get("name", ""))
        if match is None:
            continue
        result = results.setdefault(match[1], RowResult())
        outcome, reason = _outcome(case)
        result.outcomes[outcome] += 1
        result.reason = result.reason or reason
    return results


def _outcome(case: ET.Element) -> tuple[str, str]:
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        element = case.find(tag)
        if element is not None:
            return outcome, element.get("message", "").partition("\n")[0]
    return "passed", ""


def _state(results: dict[str, RowResult], row: str) -> str:
    return results[row].state if row in results else "no test"


def _line(row: str, claim: str, result: RowResult) -> str:
    short = claim if len(claim) <= CLAIM_WIDTH else claim[: CLAIM_WIDTH - 1] + "…"
    reason = f"  ({result.reason})" if result.reason else ""
    return f"{row:<5} {result.state:<8} {short}{reason}"


if __name__ == "__main__":
    sys.exit(main())
