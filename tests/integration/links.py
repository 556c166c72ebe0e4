"""Bare links to the kernels of a target: a client in a few lines, without bridge or front end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from clouditia.bridge.link_access import LinkAccess
from clouditia.errors import ClouditiaError
from clouditia.protocol.handshake import PROTOCOL_VERSIONS, Hello
from clouditia.protocol.link import Event, Link, Role
from clouditia.protocol.messages import Message, encode_json, encode_v1
from clouditia.protocol.outbox import Outbox
from clouditia.settings import Target
from clouditia.transport.link_connection import LinkConnection
from clouditia.transport.link_runner import FrameTransport

GOODBYE_S = 1.0


class BareLink:
    """One link; used in one event loop.

    Args:
        target: The gateway.
        kernel_id: The kernel.
        on_event: Gets each event.
        start: Where to begin, see docs/protocol.md.
        protocol: The versions that this client pretends to speak.
    """

    def __init__(
        self,
        target: Target,
        kernel_id: str,
        on_event: Callable[[Event], None],
        *,
        start: int | str = "latest",
        protocol: tuple[int, int] = PROTOCOL_VERSIONS,
    ) -> None:
        outbox = Outbox()
        hello = Hello(
            f"bare-{uuid.uuid4()}", kernel_id, start=start, name="bare", protocol=protocol
        )
        self._session = uuid.uuid4().hex
        self._access = LinkAccess(target)
        self._kernel_id = kernel_id
        self.connection = LinkConnection(
            self._open, Link(Role.CLIENT, outbox, hello=hello), outbox, on_event=on_event
        )

    async def _open(self) -> FrameTransport:
        return await self._access.open(self._kernel_id)

    async def run(self) -> ClouditiaError:
        """Until an error that reconnecting cannot mend."""
        return await self.connection.run()

    def execute(self, code: str) -> str:
        """Send code; returns the ``msg_id``."""
        msg_id = uuid.uuid4().hex
        header = {"msg_id": msg_id, "msg_type": "execute_request", "session": self._session}
        header |= {"username": "bare", "version": "5.4", "date": "2026-01-01T00:00:00Z"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = Message("shell", encode_json(header), b"{}", b"{}", encode_json(content))
        self.connection.send(encode_v1(message))
        return msg_id

    async def leave(self, running: asyncio.Task[ClouditiaError]) -> None:
        """Say goodbye and end the task of :meth:`run`."""
        self.connection.say_goodbye()
        await asyncio.wait([running], timeout=GOODBYE_S)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
