"""Every decoder survives two seconds of atheris, and all inputs that were kept from earlier."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tests import needs
from tests.fuzz.targets import TARGETS

CORPORA = Path(__file__).parent / "corpora"
#: The same inputs each time: what is new is looked for by `make fuzz`, not by who changes a line.
SECONDS = 2
#: Two at a time, as many as a small machine has cores.
PAIRS = [list(TARGETS)[place : place + 2] for place in range(0, len(TARGETS), 2)]


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_a_decoder_raises_only_what_it_says(names: list[str]) -> None:
    if platform.machine() != "x86_64" or sys.version_info >= (3, 14):
        pytest.skip("atheris has builds for x86_64 and Python up to 3.13")
    needs.modules("atheris")
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.fuzz.fuzz",
                name,
                "--seconds",
                str(SECONDS),
                "--seed",
                "1",
            ],
            cwd=needs.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for name in names
    ]
    outputs = [process.communicate()[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output[-6000:]
        assert "stat::number_of_executed_units" in output


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_read_or_refused(name: str) -> None:
    """Also where there is no atheris."""
    inputs = sorted((CORPORA / name).iterdir())
    assert inputs, f"{name} has no corpus"
    code = (
        "import sys; from pathlib import Path; from tests.fuzz.targets import TARGETS\n"
        f"check = TARGETS[{name!r}].make()\n"
        f"[check(path.read_bytes()) for path in sorted(Path({str(CORPORA / name)!r}).iterdir())]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=needs.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
