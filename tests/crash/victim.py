"""A process that works on durable state until it is killed in the middle of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Victim:
    """Runs ``python -m MODULE PATH``: an operation per line comes in, an answer per line goes out.

    An answer says that the operation is done and will last, whatever happens next.
    """

    def __init__(self, module: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    def do(self, operations: list[Any]) -> list[Any]:
        """Carry all out; returns the answers."""
        self._send(operations)
        return [self._answer() for _ in operations]

    def die_during(self, operations: list[Any], after: int) -> list[Any]:
        """Kill it when ``after`` answers were read while the rest is under way; returns all answers
        that it gave."""
        self._send(operations)
        answers = [self._answer() for _ in operations[:after]]
        self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        rest = self._process.stdout.read().split(b"\n")[:-1]  # without one that was cut short
        self._close()
        return answers + [json.loads(line) for line in rest]

    def close(self) -> None:
        """Let it end by itself."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            assert self._process.wait(60) == 0
        self._close()

    def _send(self, operations: list[Any]) -> None:
        assert self._process.stdin is not None
        lines = "".join(json.dumps(operation) + "\n" for operation in operations)
        self._process.stdin.write(lines.encode())
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it has died by itself"
        return json.loads(line)

    def _close(self) -> None:
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):  # operations that it has not read
                    pipe.close()


def serve(carry_out: Any) -> None:
    """The victim's side: answer each operation when it is done."""
    for line in sys.stdin:
        print(json.dumps(carry_out(*json.loads(line))), flush=True)
