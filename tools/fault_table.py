"""Break Clouditia and what people use today in the same ways, and write down what was lost.

``fault_table.py --output docs/fault-table.md`` runs every fault in every stack, each in a process
of its own. ``--short`` makes the faults a few seconds long, to try the table itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.faults.faults import FAULTS, SMOKE, Lengths, Outcome  # noqa: E402  (the path comes first)
from tools.faults.report import page  # noqa: E402
from tools.faults.stacks import STACKS  # noqa: E402

#: After so long a run hangs: longer than any fault and all that is waited for after it.
LIMIT_S = 400.0


def main() -> int:
    """Run what was asked for and write the page."""
    options = _options()
    stacks, faults = _chosen(options.stacks, STACKS), _chosen(options.faults, FAULTS)
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {
            (fault, stack): pool.submit(_run, stack, fault, is_short=options.short)
            for fault in faults
            for stack in stacks
        }
        found = {
            fault: {stack: _said(fault, stack, running[fault, stack]) for stack in stacks}
            for fault in faults
        }
    outcomes = _with_earlier(options.keep, found)
    shown = [stack for stack in STACKS if any(stack in row for row in outcomes.values())]
    text = page(
        outcomes,
        titles={stack: STACKS[stack].title for stack in shown},
        versions={stack: STACKS[stack].versions() for stack in shown},
        lengths=SMOKE if options.short else Lengths(),
        circumstances=_circumstances(options.jobs),
    )
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text, encoding="utf-8")
        print(f"wrote {options.output}", file=sys.stderr)
    return 0


def _with_earlier(
    path: Path | None, found: dict[str, dict[str, Outcome]]
) -> dict[str, dict[str, Outcome]]:
    """What was found and, where some were not run now, what an earlier run has kept."""
    if path is None:
        return found
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for fault, by_stack in found.items():
        kept.setdefault(fault, {}).update(
            {stack: outcome.to_json() for stack, outcome in by_stack.items()}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1), "utf-8")
    return {
        fault: {stack: Outcome(**kept[fault][stack]) for stack in STACKS if stack in kept[fault]}
        for fault in FAULTS
        if fault in kept
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="faults of a few seconds")
    parser.add_argument("--stacks", default="", help=f"some of {','.join(STACKS)}")
    parser.add_argument("--faults", default="", help=f"some of {','.join(FAULTS)}")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (2)")
    parser.add_argument(
        "--keep", type=Path, help="JSON file of outcomes: run some again, keep others"
    )
    parser.add_argument("--output", type=Path, help="the page; by default it is printed")
    return parser.parse_args()


def _chosen(words: str, known: Mapping[str, object]) -> list[str]:
    chosen = [word for word in words.split(",") if word] or list(known)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return chosen


def _run(stack: str, fault: str, *, is_short: bool) -> Outcome:
    command = [sys.executable, "-m", "tools.faults.one", stack, fault]
    if is_short:
        command.append("--short")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Outcome(note=f"hung for {LIMIT_S:.0f} s and was killed")
    if process.returncode:
        return Outcome(note=f"failed: {err.strip().splitlines()[-1] if err.strip() else '?'}"[:200])
    return Outcome(**json.loads(out.strip().splitlines()[-1]))


def _said(fault: str, stack: str, running: Future[Outcome]) -> Outcome:
    """The outcome, and a line for whoever waits."""
    outcome = running.result()
    print(f"{time.strftime('%H:%M:%S')} {fault}, {stack}: {outcome}", file=sys.stderr, flush=True)
    return outcome


def _circumstances(jobs: int) -> str:
    memory = psutil.virtual_memory().total / 2**30
    today = datetime.now(UTC).date().isoformat()
    return (
        f"Run on {today} under {platform.system()} with Python {platform.python_version()}, on\n"
        f"{os.cpu_count()} processors and {memory:.0f} GiB of memory, {jobs} runs at once. Each "
        "fault was run once: small\ncounts differ from run to run, seconds depend on the machine."
    )


if __name__ == "__main__":
    sys.exit(main())
