"""The target ``embedded``: a loopback gateway on this machine, started when it is first needed.

All of the user's processes share one. It ends itself after a minute without kernels and clients,
so nobody has to stop it; whoever comes next starts it again on the same state directory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clouditia.errors import ConfigError, ConnectionLostError, LaunchTimeout
from clouditia.rest import GatewayClient
from clouditia.settings import EMBEDDED, Target, load_target, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["embedded_dir", "ensure_gateway", "resolve_target", "running_gateway"]

_START_TIMEOUT_S = 30.0
_POLL_S = 0.05
_PROBE_TIMEOUT_S = 5.0
_LOG_TAIL_LINES = 15
_MAX_LOG_BYTES = 1024 * 1024


def resolve_target(name: str) -> Target:
    """The target ``name``; starts the embedded gateway where that is the one.

    Raises:
        ConfigError: there is no such target.
        LaunchTimeout: the embedded gateway did not start.
    """
    return ensure_gateway() if name.lower() == EMBEDDED else load_target(name)


def embedded_dir() -> Path:
    """State directory of the embedded gateway."""
    return state_dir() / EMBEDDED


def running_gateway() -> Target | None:
    """The embedded gateway if it answers now, else None.

    Raises:
        AuthenticationError: one answers, but does not know the key in its state directory.
    """
    directory = embedded_dir()
    try:
        url = json.loads((directory / "gateway.json").read_text("utf-8"))["url"]
        target = Target(EMBEDDED, url, key_file=directory / "admin.key")
        GatewayClient(target, timeout=_PROBE_TIMEOUT_S).info()
    except (OSError, ValueError, RecursionError, KeyError, TypeError, ConnectionLostError):
        return None  # not written yet, half a state, or nobody at home
    return target


def ensure_gateway(timeout: float = _START_TIMEOUT_S) -> Target:
    """The embedded gateway, started if it does not run.

    Args:
        timeout: Seconds that a start may take.

    Raises:
        ConfigError: this machine cannot run a gateway, or the new gateway gave up at once.
        LaunchTimeout: it did not answer in time; the message ends with its log.
    """
    found = running_gateway()
    if found is not None:
        return found
    _require_gateway_software()
    directory = embedded_dir()
    with _lock(directory):
        # Somebody else may have started it while we waited for the lock.
        return running_gateway() or _start(directory, timeout)


def _require_gateway_software() -> None:
    if platform.system() != "Linux":
        raise ConfigError(
            f"the embedded gateway needs Linux, this is {platform.system()}",
            hint="On Windows run Clouditia in WSL, or log in to a gateway on another machine: "
            "clouditia login URL --name NAME",
        )
    missing = [name for name in ("jupyter_server", "ipykernel") if not _is_installed(name)]
    if missing:
        raise ConfigError(
            f"the embedded gateway needs {' and '.join(missing)}, not installed here",
            hint="Install with: pip install 'clouditia[gateway]'",
        )


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; it frees itself when the holder dies."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise ConfigError(
            f"the state directory {directory} cannot be used: {exc.strerror}",
            hint="CLOUDITIA_STATE_DIR chooses another one.",
        ) from exc
    try:
        if sys.platform != "win32":  # where nobody comes this far
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(directory: Path, timeout: float) -> Target:
    deadline = time.monotonic() + timeout
    _wait_for_predecessor(directory, deadline)
    log = directory / "embedded.log"
    process = _spawn(directory, log)
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = running_gateway()
        if found is not None:
            _reap_later(process)
            return found
        if process.poll() is not None:
            raise ConfigError(
                f"the embedded gateway ended at once with exit code {process.returncode}:\n"
                + _tail(log)
            )
        pause.wait(_POLL_S)
    process.terminate()
    _reap_later(process)
    raise LaunchTimeout(
        f"the embedded gateway did not answer within {timeout:g} s. Its log ends with:\n"
        + _tail(log),
        hint="Try it in the foreground: clouditia gateway start",
    )


def _wait_for_predecessor(directory: Path, deadline: float) -> None:
    """Let a gateway that is just leaving go first: it still holds the state directory."""
    try:
        pid = int(json.loads((directory / "gateway.json").read_text("utf-8"))["pid"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return
    # The number may belong to somebody else by now, so this wait is only half of the time.
    limit = time.monotonic() + (deadline - time.monotonic()) / 2
    pause = threading.Event()
    while _is_alive(pid) and time.monotonic() < limit and running_gateway() is None:
        pause.wait(_POLL_S)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _spawn(directory: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "clouditia.cli", "gateway", "start", "--embedded"]
    command += ["--port", "0", "--state-dir", str(directory)]
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )


def _reap_later(process: subprocess.Popen[bytes]) -> None:
    """Collect the gateway's exit status whenever it ends, so that it never stays a zombie."""
    threading.Thread(target=process.wait, name="clouditia-embedded-reaper", daemon=True).start()


def _tail(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError as exc:
        return f"(no log: {exc.strerror})"
    return "\n".join(lines[-_LOG_TAIL_LINES:]) or "(the log is empty)"
