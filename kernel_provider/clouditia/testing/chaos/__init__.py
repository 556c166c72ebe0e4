"""Break the network and kill processes on purpose, and count what a front end lost by it.

``ChaosProxy`` stands between two ends and breaks their connections, ``Killer`` ends one process of
a gateway by its role, ``NumberedLines`` is a cell whose output can be counted, and ``LineOracle``
counts it. docs/testing.md shows how to try notebooks of your own with them.
"""

from clouditia.testing.chaos.killer import ROLES, Killer, Role
from clouditia.testing.chaos.lines import NumberedLines
from clouditia.testing.chaos.oracle import HEALTHY, LineOracle, Verdict
from clouditia.testing.chaos.proxy import ChaosProxy
from clouditia.testing.chaos.weather import Direction

__all__ = [
    "HEALTHY",
    "ROLES",
    "ChaosProxy",
    "Direction",
    "Killer",
    "LineOracle",
    "NumberedLines",
    "Role",
    "Verdict",
]
