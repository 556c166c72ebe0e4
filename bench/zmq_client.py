"""A lean front end: executes cells over ZMQ and waits for reply and idle."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What kernels and bridges write to stderr.
KERNEL_LOG = Path("build/bench-kernels.log")
READY_TIMEOUT_S = 60.0
CELL_TIMEOUT_S = 120.0
RETRY_MS = 500


class CellClient:
    """Shell and iopub of one kernel, used by one thread.

    Args:
        info: The kernel's connection info, as ``jupyter_client`` has it.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        key = info["key"]
        self._session = Session(
            key=key if isinstance(key, bytes) else key.encode(),
            signature_scheme=info["signature_scheme"],
        )
        self._shell = self._connect(zmq.DEALER, info, "shell_port")
        self._iopub = self._connect(zmq.SUB, info, "iopub_port")
        self._iopub.setsockopt(zmq.SUBSCRIBE, b"")
        self._poller = zmq.Poller()
        self._poller.register(self._shell, zmq.POLLIN)
        self._poller.register(self._iopub, zmq.POLLIN)

    @staticmethod
    def _connect(kind: int, info: dict[str, Any], port: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.connect(f"{info['transport']}://{info['ip']}:{info[port]}")
        return socket

    def wait_ready(self) -> None:
        """Ask for kernel_info until one reply and one broadcast message have arrived."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        waiting = {self._shell, self._iopub}
        self._send("kernel_info_request", {})
        while waiting:
            ready = self._poller.poll(RETRY_MS)
            for socket, _ in ready:
                self._receive(socket)
                waiting.discard(socket)
            if not ready and time.monotonic() > deadline:
                raise TimeoutError(f"no kernel answered within {READY_TIMEOUT_S:g} s")
            if not ready:
                self._send("kernel_info_request", {})

    def execute(self, code: str) -> int:
        """Run one cell to its end; returns how many characters it printed.

        Raises:
            RuntimeError: The cell raised.
            TimeoutError: Reply or idle did not come in time.
        """
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        request = self._send("execute_request", content)
        deadline = time.monotonic() + CELL_TIMEOUT_S
        printed, waiting = 0, {"reply", "idle"}
        while waiting:
            ready = self._poller.poll(RETRY_MS)
            if not ready and time.monotonic() > deadline:
                raise TimeoutError(f"no {waiting} of a cell within {CELL_TIMEOUT_S:g} s")
            for socket, _ in ready:
                message = self._receive(socket)
                if message["parent_header"].get("msg_id") == request:
                    printed += _printed(message)
                    waiting.discard(_milestone(message))
        return printed

    def _send(self, kind: str, content: dict[str, Any]) -> str:
        sent = self._session.send(self._shell, kind, content)
        if sent is None:
            raise RuntimeError(f"the session sent no {kind}")
        return str(sent["header"]["msg_id"])

    def _receive(self, socket: zmq.Socket[bytes]) -> dict[str, Any]:
        _, message = self._session.recv(socket)
        if message is None:
            raise RuntimeError("a socket that was ready had no message")
        return message

    def close(self) -> None:
        """Close the sockets."""
        self._shell.close()
        self._iopub.close()


def _printed(message: dict[str, Any]) -> int:
    return len(message["content"]["text"]) if message["msg_type"] == "stream" else 0


def _milestone(message: dict[str, Any]) -> str:
    content = message["content"]
    if message["msg_type"] == "execute_reply":
        if content["status"] != "ok":
            raise RuntimeError(f"the cell failed: {content}")
        return "reply"
    return "idle" if content.get("execution_state") == "idle" else ""


@contextmanager
def running_kernel(kernel_name: str) -> Iterator[tuple[KernelManager, CellClient]]:
    """Start a kernel from its kernelspec, wait until it answers, and end it afterwards."""
    manager = KernelManager(kernel_name=kernel_name)
    with KERNEL_LOG.open("ab") as log:
        manager.start_kernel(stderr=log)
    client = CellClient(dict(manager.get_connection_info()))
    try:
        client.wait_ready()
        yield manager, client
    finally:
        client.close()
        manager.shutdown_kernel()
