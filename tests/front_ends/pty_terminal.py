"""A program in a terminal: keys go in, and what is read is the screen that a person would see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pexpect  # type: ignore[import-untyped]  # it has no annotations
import pyte

WAIT_S = 60.0
COLUMNS = 100
#: High enough that nothing which a test prints scrolls off.
ROWS = 200
CTRL_C, CTRL_D, ENTER, TAB = "\x03", "\x04", "\r", "\t"


class PtyTerminal:
    """Runs a program in a pseudo-terminal behind a terminal emulator.

    The emulator also answers the program's questions (where is the cursor?), without which
    prompt_toolkit falls back to guessing.
    """

    def __init__(self, argv: list[str], *, environment: dict[str, str], cwd: Path) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)
        self._argv, self._cwd = argv, cwd
        self._environment = environment | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def __enter__(self) -> Self:
        command, *arguments = self._argv
        self._child = pexpect.spawn(
            command,
            arguments,
            env=self._environment,
            cwd=str(self._cwd),
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            codec_errors="replace",
        )
        self._child.delaybeforesend = None
        self._screen.write_process_input = self._child.send  # type: ignore[method-assign]
        return self

    def __exit__(self, *_exc: object) -> None:
        self._child.close(force=True)

    @property
    def text(self) -> str:
        """The screen, without the blank rest of lines and the blank last lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def last_line(self) -> str:
        """The line that the cursor is on, up to the cursor."""
        return str(self._screen.display[self._screen.cursor.y])[: self._screen.cursor.x]

    def type(self, keys: str) -> None:
        """Press these keys."""
        self._child.send(keys)

    def wait(self, predicate: Callable[[], object], what: str) -> None:
        """Read until ``predicate`` holds."""
        deadline = time.monotonic() + WAIT_S
        while not predicate():
            assert time.monotonic() < deadline, f"no {what} in {WAIT_S:g} s:\n{self.text}"
            assert self._read(), f"ended before {what}:\n{self.text}"

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows this regular expression, in which ``^`` begins a line."""
        found: list[re.Match[str]] = []

        def shows() -> bool:
            match = re.search(pattern, self.text, re.MULTILINE)
            found.extend([match] if match else [])
            return match is not None

        self.wait(shows, repr(pattern))
        return found[0]

    def exit_code(self) -> int:
        """Wait for the end of the program."""
        deadline = time.monotonic() + WAIT_S
        while self._read():
            assert time.monotonic() < deadline, f"still running after {WAIT_S:g} s:\n{self.text}"
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)

    def _read(self) -> bool:
        """Show what came within a moment; ``False`` at the end."""
        try:
            self._stream.feed(self._child.read_nonblocking(1 << 16, timeout=0.1))
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        return True
