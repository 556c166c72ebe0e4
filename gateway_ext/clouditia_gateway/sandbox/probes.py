"""Each probe does the thing in a process of its own and looks whether it held."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_S = 10.0
_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
_LANDLOCK_VERSION = 1
_CGROUPS = Path("/sys/fs/cgroup")

_BWRAP = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent",
    "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",  # noqa: S108
)  # fmt: skip
#: In a namespace of its own the first process has few others beside it.
_COUNT_PROCESSES = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))"
_TOO_MUCH_MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
try:
    bytearray(1 << 29)
except MemoryError:
    print("held")
"""


class Probed(NamedTuple):
    """Whether it held, and what was seen."""

    holds: bool
    seen: str


def _yes(seen: str) -> Probed:
    return Probed(holds=True, seen=seen)


def _no(seen: str) -> Probed:
    return Probed(holds=False, seen=seen)


def bubblewrap() -> Probed:
    """Run a program without the other processes, and without a foreign file in ``/tmp``."""
    program = shutil.which("bwrap")
    if program is None:
        return _no("bwrap is not installed")
    code = [sys.executable, "-I", "-S", "-c", _COUNT_PROCESSES]
    ran = _run([program, *_BWRAP, *code])
    if ran is None or ran.returncode:
        return _no(f"bwrap does not run here: {_last_line(ran)}")
    count = int(ran.stdout or 0)
    if count > 4:
        return _no(f"a program in bwrap still saw {count} processes")
    return _yes(f"a program in bwrap saw {count} processes, its own")


def landlock() -> Probed:
    """Ask the kernel for its version of Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return _no(f"the system has none ({os.strerror(ctypes.get_errno())})")
    return _yes(f"ABI {version}")


def cgroup() -> Probed:
    """Make a control group with a memory limit, and remove it."""
    if (_CGROUPS / "cgroup.controllers").is_file():
        controllers = (_CGROUPS / "cgroup.controllers").read_text().split()
        if "memory" not in controllers:
            return _no("version 2, without the memory controller")
        return _made(_own_group("") or _CGROUPS, "memory.max", "version 2")
    if (_CGROUPS / "memory").is_dir():
        parent = _own_group("memory") or _CGROUPS / "memory"
        return _made(parent, "memory.limit_in_bytes", "version 1")
    return _no("no control groups with memory limits are mounted")


def _own_group(controller: str) -> Path | None:
    """The group that this process is in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            found = _CGROUPS / controller / path.lstrip("/")
            return found if found.is_dir() else None
    return None


def _made(parent: Path, limit: str, version: str) -> Probed:
    group = parent / f"clouditia-probe-{secrets.token_hex(4)}"
    try:
        group.mkdir()
    except OSError as exc:
        return _no(f"{version}, but no group can be made in it: {exc.strerror}")
    try:
        (group / limit).write_text(str(64 * 1024 * 1024))
    except OSError as exc:
        return _no(f"{version}, but no memory limit can be set: {exc.strerror}")
    finally:
        group.rmdir()
    return _yes(f"{version}, a group with a memory limit could be made")


def rlimits() -> Probed:
    """Take more memory than a limit allows."""
    ran = _run([sys.executable, "-I", "-S", "-c", _TOO_MUCH_MEMORY])
    if ran is not None and ran.stdout.strip() == "held":
        return _yes("a process with RLIMIT_AS 256 MiB could not take 512 MiB")
    return _no(f"RLIMIT_AS did not hold: {_last_line(ran)}")


def user_ids() -> Probed:
    """Become somebody else, in a child."""
    if os.geteuid() != 0:
        return _no("the gateway's user is not root and cannot start processes of others")
    ran = _run(
        [sys.executable, "-I", "-S", "-c", "import os; os.setuid(65534); print(os.getuid())"]
    )
    if ran is not None and ran.stdout.strip() == "65534":
        return _yes("a process could be started as another user")
    return _no(f"root may not become another user here: {_last_line(ran)}")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _last_line(ran: subprocess.CompletedProcess[str] | None) -> str:
    lines = [] if ran is None else ran.stderr.strip().splitlines()
    return lines[-1][:200] if lines else "no answer"
