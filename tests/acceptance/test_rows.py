"""One test per row of docs/features.md, against a real gateway in another process.

``test_row[C6]`` runs the function that is registered for C6. A row without a function fails, so
that a row cannot be added to the page without its check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.acceptance import (
    rows_of_clients,
    rows_of_front_ends,
    rows_of_security,
    rows_of_state,
    rows_of_transport,
    rows_of_vscode,
)
from tools.rows import ROOT, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.testing.gateway_process import GatewayProcess

ROWS = read_rows((ROOT / "docs" / "features.md").read_text(encoding="utf-8"))
CHECKS: dict[str, Callable[[GatewayProcess], None]] = {
    **rows_of_clients.CHECKS,
    **rows_of_front_ends.CHECKS,
    **rows_of_security.CHECKS,
    **rows_of_state.CHECKS,
    **rows_of_transport.CHECKS,
    **rows_of_vscode.CHECKS,
}
#: Rows whose test of the same name needs other fixtures than a gateway.
ELSEWHERE = {
    "G1": "tests/front_ends/browser/test_rows.py",
    "G18": "tests/faults/test_lines_through_cuts.py",
    "G19": "tests/faults/test_lines_through_cuts.py",
    "G20": "tests/faults/test_gateway_killed.py",
    "M1": "tests/front_ends/browser/test_lines_through_cuts.py",
    "G39": "tests/faults/test_unused_kernels.py",
}


@pytest.mark.parametrize("row", [row for row in ROWS if row not in ELSEWHERE])
def test_row(row: str, gateway: GatewayProcess) -> None:
    assert row in CHECKS, f"{row} has no check: {ROWS[row]}"
    CHECKS[row](gateway)


def test_every_check_belongs_to_a_row() -> None:
    assert set(CHECKS) | set(ELSEWHERE) == set(ROWS)
    for row, path in ELSEWHERE.items():
        assert f'"{row}"' in (ROOT / path).read_text(encoding="utf-8")
