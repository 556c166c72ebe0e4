"""The parent's end of a managed bridge: its process, its standard input, its state file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["BridgeHandle", "BridgeState", "state_path"]

_POLL_S = 0.02


@dataclass(frozen=True)
class BridgeState:
    """What a bridge last said about itself; see :class:`clouditia.bridge.state_file.StateFile`."""

    kernel_id: str = ""
    epoch: int | None = None
    state: str = "starting"
    reason: str = ""


def state_path(connection_file: str | Path) -> Path:
    """The state file that belongs to a connection file."""
    return Path(f"{Path(connection_file).resolve()}.clouditia")


class BridgeHandle:
    """Commands a bridge that was started with ``--managed`` and reads what it says.

    Args:
        process: The running bridge; its standard input is a pipe that this object owns.
        connection_file: The connection file that it serves.
    """

    def __init__(self, process: subprocess.Popen[bytes], connection_file: str | Path) -> None:
        self.process = process
        self._path = state_path(connection_file)

    @property
    def is_running(self) -> bool:
        """Whether the process lives; says nothing about the network or the kernel."""
        return self.process.poll() is None

    def state(self) -> BridgeState:
        """What the bridge last wrote; the defaults if that was nothing, or another bridge's."""
        try:
            fields = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return BridgeState()
        if not isinstance(fields, dict) or fields.get("pid") != self.process.pid:
            return BridgeState()
        epoch = fields.get("epoch")
        return BridgeState(
            kernel_id=str(fields.get("kernel_id") or ""),
            epoch=epoch if isinstance(epoch, int) else None,
            state=str(fields.get("state") or "starting"),
            reason=str(fields.get("reason") or ""),
        )

    def tell(self, command: str) -> bool:
        """Give one command; False if the bridge is no longer listening."""
        pipe: IO[bytes] | None = self.process.stdin
        if pipe is None or pipe.closed:
            return False
        try:
            pipe.write(command.encode() + b"\n")
            pipe.flush()
        except OSError:
            return False
        return True

    async def wait_for(self, condition: Callable[[BridgeState], bool], timeout: float) -> bool:
        """Wait until the bridge's state fulfils ``condition``; False if it ends or time is up."""
        deadline = time.monotonic() + timeout
        while not condition(self.state()):
            if not self.is_running or time.monotonic() > deadline:
                return condition(self.state())
            await asyncio.sleep(_POLL_S)
        return True

    async def wait_exit(self, timeout: float) -> bool:
        """Wait until the process is gone; False if time is up first."""
        deadline = time.monotonic() + timeout
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def make_leave(self, grace: float) -> None:
        """See to it that the process is gone: ask, after ``grace`` seconds kill, and reap it."""
        if not await self.wait_exit(grace):
            self.process.terminate()
            if not await self.wait_exit(grace):
                self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Close the pipe; a bridge that still lives takes this for the parent's death."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except OSError:
                return  # an unread command in a broken pipe; there is nobody to tell it to

    def forget_state(self) -> None:
        """Remove the state file."""
        self._path.unlink(missing_ok=True)
