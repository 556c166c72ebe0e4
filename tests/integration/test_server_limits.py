"""A Jupyter server's rate limit: lifted for remote kernels, kept for others and for who set it."""

from __future__ import annotations

import pytest
from tests.integration.local_server import LocalServer

from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget

#: Over the limit of 1 MB a second and 3 s, and over that of 1000 messages a second.
MANY = "print('x' * 8_000_000)"
LIMITED = "IOPub data rate exceeded"


def printed(server: LocalServer, kernel: str, code: str) -> tuple[int, str]:
    """How much of a cell's output came, and what the server said about the rest."""
    kernel_id = server.open_session(kernel, f"{kernel}.ipynb")["kernel"]["id"]
    try:
        return run_and_read(server, kernel_id, code)
    finally:
        server.request("DELETE", f"/api/kernels/{kernel_id}")


def run_and_read(server: LocalServer, kernel_id: str, code: str) -> tuple[int, str]:
    with server.client(kernel_id) as page:
        page.run("1")
        msg_id, text, warning = page.send(code), "", ""
        while True:
            message = page.receive()
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                text += content["text"]
            elif kind == "stream":
                warning += content["text"]
            is_ours = (message.get("parent_header") or {}).get("msg_id") == msg_id
            if is_ours and kind == "status" and content["execution_state"] == "idle":
                return len(text), warning


def test_a_remote_kernels_output_passes_whole_and_a_local_ones_is_limited_as_ever(
    module_home: IsolatedHome, module_target: LoggedInTarget
) -> None:
    with LocalServer(module_home) as server:
        assert printed(server, module_target.kernel_name(), MANY) == (8_000_001, "")
        size, warning = printed(server, "python3", MANY)
        assert size == 0
        assert LIMITED in warning
        server.stop()


@pytest.mark.slow
def test_a_limit_that_the_user_has_set_holds(
    module_home: IsolatedHome, module_target: LoggedInTarget
) -> None:
    option = "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=100000"
    with LocalServer(module_home, option) as server:
        size, warning = printed(server, module_target.kernel_name(), MANY)
        assert size == 0
        assert LIMITED in warning
        server.stop()
