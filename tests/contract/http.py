"""Plain HTTP and websocket requests to a gateway, as any client could send them."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One user's requests; a connection each, so that nothing carries over."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port
        self.base = parts.path.rstrip("/")
        self.key = key

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        content = raw if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, self.base + path, content, sent | (headers or {}))
            response = connection.getresponse()
            # An accepted websocket has no end; its headers say enough.
            read = b"" if response.status == 101 else response.read()
            lower = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lower, read)
        finally:
            connection.close()

    def upgrade(self, path: str, **headers: str) -> Answer:
        """Ask for a websocket, in its simplest form."""
        return self(
            "GET",
            path,
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Protocol": "v1.kernel.websocket.jupyter.org",
                **headers,
            },
        )
