"""Running our commands against a hostile server: what they said, wrote, and took of the memory."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until

MAX_RSS_BYTES = 200 * 1024 * 1024
WAIT_S = 60.0
KEY = "ck_0123456789ab_" + "c" * 64


class Ran(NamedTuple):
    """A command that has ended, or was ended once it had said what was awaited."""

    code: int
    out: str
    err: str
    rss_bytes: int


def run(home: IsolatedHome, *words: str, until: str = "") -> Ran:
    """``clouditia WORDS``; with ``until``, killed when that is on standard error."""
    return run_program([sys.executable, "-m", "clouditia.cli", *words], home, until=until)


def run_program(argv: list[str], home: IsolatedHome, *, until: str = "") -> Ran:
    out, err = home.directory / "out.txt", home.directory / "err.txt"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            argv,
            env=home.environment(),
            cwd=home.directory,
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
        )
    peak = [0]

    def has_ended() -> bool:
        peak.append(max(peak.pop(), peak_memory(process.pid)))
        if until and until in read(err):
            process.kill()
        return process.poll() is not None

    try:
        wait_until(has_ended, 2 * WAIT_S, interval_s=0.01, what="the command ends")
    finally:
        process.kill()
        process.wait()
    ran = Ran(process.returncode, read(out), read(err), peak[0])
    out.unlink()
    err.unlink()
    return ran


#: Runs many commands in one process, each on a scene of the server's, and separates what they say.
_MANY = """
import json, sys, urllib.request
from clouditia.cli import main
url, commands = json.loads(sys.argv[1])
for number, words in enumerate(commands):
    urllib.request.urlopen(f"{url}/scene/{number}").close()
    try:
        code = main(words)
    except SystemExit as exc:
        code = exc.code
    for stream in (sys.stdout, sys.stderr):
        print(f"\\n=== {code}", file=stream, flush=True)
"""


def run_many(home: IsolatedHome, url: str, commands: Sequence[Sequence[str]]) -> list[Ran]:
    """Each command on the scene of its number; the memory is the most that any of them took."""
    argv = [sys.executable, "-c", _MANY, json.dumps([url, commands])]
    ran = run_program(argv, home)
    assert ran.code == 0, ran
    outs, errs = (_parts(text) for text in (ran.out, ran.err))
    assert len(outs) == len(errs) == len(commands), ran
    return [
        Ran(code, out, err, ran.rss_bytes) for (out, code), (err, _) in zip(outs, errs, strict=True)
    ]


def _parts(text: str) -> list[tuple[str, int]]:
    found = re.findall(r"(.*?)\n=== (\d+)\n", text, re.DOTALL)
    return [(said, int(code)) for said, code in found]


def peak_memory(pid: int) -> int:
    """Bytes that the program has had at most. What ``wait4`` tells counts its parent's, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def read(path: Path) -> str:
    return path.read_text("utf-8", "replace")


def files_of(home: IsolatedHome) -> dict[str, str]:
    """Every file of the user, by its content."""
    return {
        str(path.relative_to(home.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def assert_harmless(ran: Ran, *, exit_codes: tuple[int, ...]) -> None:
    """A clear end within the limits, and nothing that gives the terminal orders."""
    assert ran.code in exit_codes, ran
    assert ran.rss_bytes < MAX_RSS_BYTES
    assert "Traceback" not in ran.err, ran.err
    assert "internal error" not in ran.err, ran.err
    assert len(ran.err) < 20_000
    for character in "\x1b\x07\x9b\x9d\u202e":
        assert character not in ran.err
    assert KEY not in ran.out + ran.err
