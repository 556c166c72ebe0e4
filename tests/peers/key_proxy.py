"""A proxy that adds the key, as people put one in front of clients that cannot send any."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from clouditia.testing.chaos import ChaosProxy


class KeyProxy(ChaosProxy):
    """Adds ``Authorization`` to the first request of each connection; later ones must not come."""

    def __init__(self, target_host: str, target_port: int, key: str) -> None:
        super().__init__(target_host, target_port)
        self._header = f"Authorization: token {key}\r\n".encode()

    async def _begin(self, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n")
            far_writer.write(head + self._header)
