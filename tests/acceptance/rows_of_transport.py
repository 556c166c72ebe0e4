"""Rows about what crosses the network, and what does not."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.acceptance.cells import front_end

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: ipykernel keeps one loopback port of its own, on which forked children hand it what they print,
#: with a secret; no channel of the Jupyter protocol is on it. No other port may be open.
ASK_THE_KERNEL = """
import os
kernel = get_ipython().kernel
print(os.getpid(), kernel.parent.transport, kernel.iopub_thread._pipe_port)
"""


def transport_is_encrypted_end_to_end(gateway: GatewayProcess) -> None:
    directory = gateway.home.directory
    certificate, key = _self_signed(directory)
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with GatewayProcess(gateway.home, state_dir=directory / "t", options=options) as secure:
        assert secure.url.startswith("https://")
        with pytest.raises(RuntimeError, match="login"):
            log_in(secure, name="unpinned")
        with pytest.raises(RuntimeError, match="login"):
            log_in(secure, name="wrong", options=("--pin", "0" * 64))
        target = log_in(secure, name="pinned", options=("--pin", pin))
        with front_end(target.kernel_name()) as notebook:
            pid, transport, pipe_port = notebook.run(ASK_THE_KERNEL).stdout.split()
            assert transport == "ipc"
            kernel = psutil.Process(int(pid))
            assert _listening(kernel) == [("127.0.0.1", int(pipe_port))]
            others = {kernel.pid, secure.pid}
            hosts = [p for p in processes_under(secure.state_dir) if p.pid not in others]
            assert hosts
            assert not any(_listening(host) for host in hosts)


def _listening(process: psutil.Process) -> list[tuple[str, int]]:
    connections = process.net_connections("tcp")
    return [(c.laddr[0], c.laddr[1]) for c in connections if c.status == psutil.CONN_LISTEN]


def _self_signed(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "cert.pem", directory / "key.pem"
    request = ["req", "-x509", "-nodes", "-days", "1", "-newkey", "rsa:2048"]
    name = ["-subj", "/CN=gateway", "-addext", "subjectAltName=DNS:gateway"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request, *name, *files], check=True, capture_output=True)
    return certificate, key


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {"G40": transport_is_encrypted_end_to_end}
