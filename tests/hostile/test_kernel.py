"""A kernel that lies, behind a real kernel host and a real gateway: it hurts nobody but itself."""

from __future__ import annotations

import psutil
from tests.hostile.client import MAX_RSS_BYTES, assert_harmless, files_of, run

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.processes import command_line, processes_under
from clouditia.testing.targets import LoggedInTarget

#: What kernels and the gateway write themselves, as the same user on the same machine.
OF_KERNELS = ("g/", ".ipython/", "ip/")
#: Signed as the kernel signs, on the kernel's own sockets: nothing in between can tell it is odd.
ATTACK = r"""
import json
kernel = get_ipython().kernel
session, thread = kernel.session, kernel.iopub_thread
parent = kernel.get_parent("shell")["header"]

def emit(header, content, parent_header=parent, buffers=(), idents=(b"stream",)):
    parts = [part if isinstance(part, bytes) else json.dumps(part, default=str).encode()
             for part in (header, parent_header, {}, content)]
    signed = [b"<IDS|MSG>", session.sign(parts), *parts, *buffers]
    kernel.iopub_socket.send_multipart([*idents, *signed])

def header(msg_type, **fields):
    return {"msg_id": "evil", "msg_type": msg_type, "session": "s", "version": "5.3",
            "date": "2026-01-01T00:00:00Z", "username": "", **fields}

away = {"msg_id": "of nobody"}
emit(b"\xff\xfe", {}, away)
emit(b"[]", {}, away)
emit(header("stream"), b'{"name": 1, "text": [2]}', away)
emit(header("status"), {"execution_state": {"a": 1}}, away)
emit(header("kernel_exited"), {"reason": "a lie", "expected": False}, away)
emit(header(["a list"]), {}, away)
emit(header("display_data"), {"data": {}}, away, buffers=[b"x"] * 3000)
emit(header("x" * 1_000_000), {}, away)
deep = b"[" * 1_000_000 + b"]" * 1_000_000
emit(deep, {}, away)
emit(header("stream"), deep)
kernel.iopub_socket.send_multipart([b"no delimiter"])
kernel.iopub_socket.send_multipart([b"<IDS|MSG>", b"wrong signature", b"{}", b"{}", b"{}", b"{}"])
"""


def test_a_kernel_that_lies_on_its_own_sockets_stops_neither_host_gateway_nor_client(
    module_target: LoggedInTarget,
) -> None:
    gateway, home = module_target.gateway, module_target.gateway.home
    (home.directory / "evil.py").write_text(ATTACK)
    (home.directory / "good.py").write_text("print(6 * 7)\n")
    client = GatewayClient(load_target(module_target.name))
    victim = client.start_kernel("python3", env={}, path="")["id"]
    before = {name for name in files_of(home) if not name.startswith(OF_KERNELS)}
    memory = psutil.Process(gateway.pid).memory_info().rss

    # jupyter_client, which reads for `run`, gives up on such messages: that must be said.
    ran = run(home, "run", "evil.py", "--target", module_target.name)
    assert_harmless(ran, exit_codes=(12,))
    assert "the kernel sent a message that cannot be read" in ran.err

    assert psutil.Process(gateway.pid).memory_info().rss - memory < 32 * 1024 * 1024
    hosts = [one for one in processes_under(home.directory) if "kernelhost" in command_line(one)]
    assert all(one.memory_info().rss < MAX_RSS_BYTES for one in hosts)
    assert client.get_kernel(victim)["execution_state"] == "idle"
    good = run(home, "run", "good.py", "--target", module_target.name)
    assert (good.code, good.out) == (0, "42\n")
    assert {name for name in files_of(home) if not name.startswith(OF_KERNELS)} == before
    assert "Traceback" not in gateway.output
    client.shutdown(victim)
