"""jupyter-kernel-client as a client of the fault table, in a process of its own.

As a program it runs one kernel client with its default options: it reads cells as JSON lines and
writes what came. ``KernelClient`` is the other end of that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tools.faults.client import Client

from clouditia.testing.home import IsolatedHome

#: The client's own limit for a cell is 30 s; every cell here may last longer.
_CELL_S = 240.0


class KernelClient(Client):
    """One client; an error that it raises is what its user sees.

    Args:
        home: The user.
        url: Of the server, through the proxy.
        token: What it wants to hear.
        kernel_id: A kernel to join; by default a new one.
    """

    def __init__(self, home: IsolatedHome, url: str, token: str, kernel_id: str = "") -> None:
        super().__init__()
        self.kernel_id = kernel_id
        self._cells = 0
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), url, kernel_id],
            env=home.environment() | {"CK": token, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=home.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="kernel-client", daemon=True)
        self._reader.start()

    def is_connected(self, timeout_s: float) -> bool:
        """Whether it has its kernel."""
        return self.is_ready(timeout_s)

    def is_ready(self, timeout_s: float) -> bool:
        """Whether it has its kernel."""
        return self.wait(lambda: self.kernel_id or self.errors, timeout_s) and not self.errors

    def execute(self, code: str) -> str:
        self._cells += 1
        assert self._process.stdin is not None  # noqa: S101  (a pipe was asked for)
        self._process.stdin.write(json.dumps({"cell": str(self._cells), "code": code}) + "\n")
        self._process.stdin.flush()
        return str(self._cells)

    def sleep(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  (a pipe was asked for)
        for line in self._process.stdout:
            said = json.loads(line)
            if "kernel_id" in said:
                self.kernel_id = said["kernel_id"]
            elif "error" in said:
                self.errors.append((time.monotonic(), said["error"]))
            else:
                message = said["message"]
                message["buffers"] = [bytes(size) for size in said["buffers"]]
                self.note(said["cell"], message)


def main(url: str, kernel_id: str) -> None:
    """Run one client."""
    from jupyter_kernel_client import (  # type: ignore[import-untyped]  # no annotations
        JupyterKernelClient,
    )

    options = {"kernel_id": kernel_id} if kernel_id else {}
    try:
        with JupyterKernelClient(server_url=url, token=os.environ["CK"], **options) as kernel:
            _say({"kernel_id": kernel.id})
            for line in sys.stdin:
                asked = json.loads(line)
                _run(kernel, asked["cell"], asked["code"])
    except Exception as exc:  # noqa: BLE001  (all of it is what its user sees)
        _say({"error": f"{type(exc).__name__}: {exc}"})


def _run(kernel: Any, cell: str, code: str) -> None:
    def came(message: dict[str, Any]) -> None:
        buffers = [len(each) for each in message.get("buffers") or []]
        fields = {name: message[name] for name in ("header", "parent_header", "content")}
        _say({"cell": cell, "message": fields, "buffers": buffers})

    came(kernel.execute_interactive(code, output_hook=came, timeout=_CELL_S))


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what, default=str), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
