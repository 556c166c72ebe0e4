"""Another laptop of the same user: a home of its own, logged in with a key of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome, isolated_home

RUN_S = 60.0


@dataclass(frozen=True)
class Laptop:
    """Runs ``clouditia`` as its user does."""

    home: IsolatedHome

    def run(self, *arguments: str) -> Any:
        """Run a command; returns its data."""
        done = subprocess.run(
            [sys.executable, "-m", "clouditia.cli", "--json", *arguments],
            env=self.home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=RUN_S,
            check=True,
        )
        return json.loads(done.stdout)

    @contextmanager
    def attached(self, kernel_id: str) -> Iterator[subprocess.Popen[str]]:
        """A terminal that shows what the kernel prints, until it is idle."""
        terminal = subprocess.Popen(
            [sys.executable, "-m", "clouditia.cli", "attach", kernel_id],
            env=self.home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with terminal:
            try:
                yield terminal
            finally:
                terminal.kill()


@contextmanager
def second_laptop(gateway: GatewayProcess, *, user: str = "ada") -> Iterator[Laptop]:
    """Its target is called ``desk``; this process stays at home on the first laptop."""
    here = dict(os.environ)
    with isolated_home() as home:
        os.environ.clear()
        os.environ.update(here)
        key_file = home.directory / "key"
        key_file.touch(0o600)
        key_file.write_text(gateway.create_key(user) + "\n")
        laptop = Laptop(home)
        laptop.run("login", gateway.url, "--name", "desk", "--key-file", str(key_file))
        yield laptop
