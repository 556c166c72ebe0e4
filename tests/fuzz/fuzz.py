"""Fuzzes decoders: ``python -m tests.fuzz.fuzz [NAME ...] --seconds 60``.

Begins with the corpus in ``tests/fuzz/corpora`` and with what earlier runs have found worth keeping
(``build/fuzz``). An input that fails is kept in ``build/fuzz/found`` and named at the end.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: More than this on top is a find, too: no decoder may hold much more than what it was given.
MEMORY_LIMIT_MIB = 600
MAX_INPUT_BYTES = 4096


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Fuzz one decoder in this process; ends the process."""
    import atheris

    target = TARGETS[name]
    with atheris.instrument_imports(include=list(target.modules), enable_loader_override=False):
        check = target.make()
    kept = ROOT / "build" / "fuzz" / name
    found = ROOT / "build" / "fuzz" / "found"
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-rss_limit_mb={_peak_mib() + MEMORY_LIMIT_MIB}",
        "-timeout=20",
        f"-artifact_prefix={found}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
        *([f"-seed={seed}"] if seed else []),
    ]
    atheris.Setup([sys.argv[0], *options, str(kept), str(HERE / "corpora" / name)], check)
    atheris.Fuzz()


def _peak_mib() -> int:
    """What libFuzzer counts at its start: the memory of whoever started this process, too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    """Fuzz each in a process of its own, because atheris ends it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each of them")
    parser.add_argument("--seed", type=int, default=0, help="to do the same again")
    options = parser.parse_args()
    if len(options.names) == 1:
        fuzz(options.names[0], options.seconds, options.seed)
    failed = []
    for name in options.names or TARGETS:
        print(f"== {name}, {options.seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz.fuzz", name, "--seconds", str(options.seconds)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "nothing was found")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
