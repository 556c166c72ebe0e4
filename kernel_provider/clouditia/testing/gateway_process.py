"""A real gateway in a process of its own, to be stopped, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Self

from clouditia.testing.home import IsolatedHome
from clouditia.testing.processes import assert_none_left, kill_all_under, processes_under
from clouditia.testing.waiting import wait_until

START_TIMEOUT_S = 45.0
STOP_TIMEOUT_S = 30.0


class GatewayProcess:
    """Runs ``clouditia gateway start`` on one state directory.

    Args:
        home: The user it runs as.
        state_dir: Its state directory; by default one inside the home.
        options: More arguments of ``gateway start``, for example ``--tls-cert``.
        environment: Variables on top of the home's.
        python: The interpreter that runs it, to try another version.
    """

    def __init__(
        self,
        home: IsolatedHome,
        *,
        state_dir: Path | None = None,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.home = home
        self.state_dir = state_dir or home.directory / "g"
        self.options = options
        self._python = python
        self.url = ""
        self._environment = home.environment() | (environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._output: deque[str] = deque(maxlen=2000)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        """Close it; a failing test keeps its own error and everything is killed."""
        if kind is None:
            self.close()
        else:
            self.kill()
            kill_all_under(self.state_dir)

    @property
    def pid(self) -> int:
        """Process id of the running gateway."""
        if self._process is None:
            raise RuntimeError("the gateway is not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the gateway process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it printed so far, both streams, the last 2000 lines."""
        return "".join(self._output)

    @property
    def admin_key(self) -> str:
        """The admin key that it minted at its first start."""
        return (self.state_dir / "admin.key").read_text().strip()

    def start(self) -> str:
        """Start the gateway, wait for its ``ready`` line, and return its URL."""
        self.url = ""
        process = subprocess.Popen(
            [*self._command("start"), "--port", "0", *self.options],
            env=self._environment,
            cwd=self.home.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._process = process
        self._reader = threading.Thread(
            target=self._read_output, args=(process,), name="gateway-output", daemon=True
        )
        self._reader.start()
        try:
            wait_until(
                lambda: self.url or process.poll() is not None,
                START_TIMEOUT_S,
                what="the gateway says that it is ready",
            )
        except AssertionError:
            self.kill()
            raise AssertionError(f"no `ready URL` line; it printed:\n{self.output}") from None
        if not self.url:
            self._reap()
            raise RuntimeError(f"the gateway ended with {process.returncode}:\n{self.output}")
        return self.url

    def terminate(self) -> None:
        """SIGTERM and wait: kernels stay."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and wait: kernels stay too."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # gateways run on Linux only

    def restart(self, *, kill: bool = False) -> str:
        """End it, by SIGTERM or SIGKILL, and start it again on the same state directory."""
        if kill:
            self.kill()
        else:
            self.terminate()
        return self.start()

    def create_key(self, user: str, *, admin: bool = False) -> str:
        """Mint a key the way an operator does."""
        arguments = ["create", "--user", user, *(["--admin"] if admin else [])]
        printed = self.run("keys", *arguments, "--state-dir", str(self.state_dir))
        for word in printed.split():
            if word.startswith(("ck_", "sk_")):
                return word
        raise AssertionError("`clouditia keys create` printed no key")

    def run(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run a ``clouditia`` command as this home's user and return its standard output."""
        done = subprocess.run(
            [self._python, "-m", "clouditia.cli", *arguments],
            env=self._environment,
            cwd=self.home.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            words = " ".join(arguments)
            raise RuntimeError(f"clouditia {words} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def info(self) -> dict[str, object]:
        """What it wrote into ``gateway.json``."""
        content: dict[str, object] = json.loads((self.state_dir / "gateway.json").read_text())
        return content

    def close(self) -> None:
        """End all its kernels and itself.

        Raises:
            AssertionError: A process outlived that; it is killed before this is raised.
        """
        if not self.is_running and processes_under(self.state_dir):
            self.start()  # only a gateway can end the kernels of a gateway that was killed
        if self.is_running:
            self.run("gateway", "stop", "--drain", "--state-dir", str(self.state_dir))
            self._wait()
        assert_none_left(self.state_dir)

    def _command(self, verb: str) -> list[str]:
        module = [self._python, "-m", "clouditia.cli"]
        return [*module, "gateway", verb, "--state-dir", str(self.state_dir)]

    def _read_output(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101  (it was asked for)
        for line in process.stdout:
            self._output.append(line)
            if line.startswith("ready "):
                self.url = line.split()[1]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        self._wait()

    def _wait(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._reap()
            raise AssertionError(
                f"the gateway was still running {STOP_TIMEOUT_S:g} s after it was told to stop"
            ) from None
        self._reap()

    def _reap(self) -> None:
        if self._process is None:
            return
        if self._reader is not None:
            # A kernel host that inherited the pipe would keep the reader waiting.
            self._reader.join(2.0)
        if self._process.stdout is not None and not (self._reader and self._reader.is_alive()):
            self._process.stdout.close()
