"""What people use today: a Jupyter server that forwards to another one (``--gateway-url``)."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect

from clouditia.testing.jupyter_server import JupyterServer, jupyter_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clouditia.testing.home import IsolatedHome

CELL_TIMEOUT_S = 60.0


class BrowserLikeClient:
    """Executes cells through a Jupyter server's websocket in JSON, as a page does."""

    def __init__(self, server: JupyterServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._session = uuid.uuid4().hex
        self.kernel_id = str(server.call("POST", "/api/kernels", {"name": "python3"})["id"])
        self._socket: ClientConnection = self._loop.run_until_complete(self._connect())

    async def _connect(self) -> ClientConnection:
        url = f"ws://127.0.0.1:{self._server.port}/api/kernels/{self.kernel_id}/channels"
        return await connect(
            f"{url}?session_id={self._session}",
            additional_headers={"Authorization": f"token {self._server.token}"},
            max_size=None,
            compression=None,
        )

    def execute(self, code: str) -> None:
        """Run one cell until reply and idle."""
        self._loop.run_until_complete(asyncio.wait_for(self._execute(code), CELL_TIMEOUT_S))

    async def _execute(self, code: str) -> None:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "session": self._session,
            "username": "bench",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = {
            "channel": "shell",
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
        }
        await self._socket.send(json.dumps(message))
        is_replied = is_idle = False
        while not (is_replied and is_idle):
            got = json.loads(await self._socket.recv())
            if got["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            is_replied = is_replied or got["msg_type"] == "execute_reply"
            is_idle = is_idle or got["content"].get("execution_state") == "idle"

    def close(self) -> None:
        """Close the socket and end the kernel."""
        self._loop.run_until_complete(self._socket.close())
        self._loop.close()
        self._server.call("DELETE", f"/api/kernels/{self.kernel_id}")


#: Arguments for Python: the server as it comes, and without the stall that its websockets have.
STOCK = ("-m", "jupyter_server")
PROMPT = (str(Path(__file__).with_name("prompt_jupyter_server.py")),)


@contextmanager
def client_through_gateway_url(
    home: IsolatedHome, command: tuple[str, ...]
) -> Iterator[BrowserLikeClient]:
    """A browser-like client of a Jupyter server that forwards to a second Jupyter server.

    Args:
        home: The user they run as.
        command: What both servers are, ``STOCK`` or ``PROMPT``.
    """
    with ExitStack() as stack:
        behind = stack.enter_context(jupyter_server(home, command=command))
        front = stack.enter_context(
            jupyter_server(
                home,
                f"--gateway-url={behind.url}",
                f"--GatewayClient.auth_token={behind.token}",
                command=command,
            )
        )
        client = BrowserLikeClient(front)
        stack.callback(client.close)
        yield client
