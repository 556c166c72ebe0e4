"""Run one fault in one stack and print the outcome: ``python -m tools.faults.one STACK FAULT``.

A process of its own, with a home of its own, so that several can run at once and one that hangs
can be killed.
"""

from __future__ import annotations

import json
import sys

from tools.faults.faults import FAULTS, SMOKE, Lengths, Outcome
from tools.faults.stacks import STACKS, NotReady

from clouditia.testing.home import isolated_home


def main(stack: str, fault: str, *options: str) -> None:
    """Run it."""
    lengths = SMOKE if "--short" in options else Lengths()
    with isolated_home() as home, STACKS[stack](home) as running:
        try:
            outcome = FAULTS[fault](running, lengths)
        except (NotReady, OSError) as exc:
            outcome = Outcome(note=f"could not be run: {exc}"[:200])
    print(json.dumps(outcome.to_json()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
