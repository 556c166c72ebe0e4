"""Clients whose sockets the gateway has handed over: their frames come here without a detour.

The gateway answers for who they are, so a host that has lost it keeps such links for
:data:`KEPT_WITHOUT_GATEWAY_S` only: long enough for a restart to go unnoticed, short enough that a
key which is revoked meanwhile is not served on. Source: docs/host-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clouditia.transport.link_runner import FrameTransport
from clouditia.transport.websocket import WebSocketTransport, adopt
from clouditia_gateway.channels.close_codes import GOING_AWAY
from clouditia_gateway.host.connection_file import MAX_SOCKET_PATH_BYTES

log = logging.getLogger("clouditia.host")

#: The bound for a revoked key's connections, of which the gateway itself needs up to 2 s.
KEPT_WITHOUT_GATEWAY_S = 3.0
_MAX_NOTE_BYTES = 16 * 1024
_BACKLOG = 64
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True)
class LinkNote:
    """What the gateway says of a client that it hands over.

    Attributes:
        connection_id: The gateway's number for this connection.
        user: Whose key opened it.
        key_id: Which key.
    """

    connection_id: str
    user: str
    key_id: str

    @classmethod
    def from_wire(cls, data: bytes) -> LinkNote:
        """Read the note that came with a socket.

        Raises:
            ValueError: it is not one.
        """
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise ValueError("not an object")  # noqa: TRY004  (one kind of error for all)
        return cls(*(str(fields.get(name, "")) for name in ("connection_id", "user", "key_id")))

    def to_wire(self) -> dict[str, str]:
        """As JSON fields."""
        return {"connection_id": self.connection_id, "user": self.user, "key_id": self.key_id}


class TakenSockets:
    """Takes sockets from the gateway through a Unix socket in the kernel's directory.

    Args:
        directory: The kernel's directory. If its path is too long for a Unix socket, nothing is
            taken and all links are relayed.
        serve: Serves one client link to its end.
        kept_s: How long links are kept without a gateway.
    """

    def __init__(
        self,
        directory: Path,
        serve: Callable[[FrameTransport], Awaitable[None]],
        *,
        kept_s: float = KEPT_WITHOUT_GATEWAY_S,
    ) -> None:
        self.path = directory / "take"
        self.on_left: Callable[[str], None] = _nobody_asks
        self._serve = serve
        self._kept_s = kept_s
        self._listening: socket.socket | None = None
        self._lines: set[socket.socket] = set()
        self._links: dict[asyncio.Task[None], LinkNote] = {}
        self._transports: dict[str, WebSocketTransport] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._let_go: asyncio.TimerHandle | None = None

    @property
    def offer(self) -> dict[str, Any]:
        """What the hello says of this: where sockets are taken, and which are held."""
        if self._listening is None:
            return {}
        notes = [note.to_wire() for note in self._links.values()]
        return {"takes_sockets": str(self.path), "links": notes}

    def listen(self) -> None:
        """Begin to take sockets; must run on the event loop."""
        if len(os.fsencode(self.path)) > MAX_SOCKET_PATH_BYTES:
            return
        self.path.unlink(missing_ok=True)  # of a host that was killed
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.setblocking(False)  # noqa: FBT003  (its only argument)
        self._listening.bind(os.fspath(self.path))
        self._listening.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def gateway_found(self) -> None:
        """The gateway knows of these links again."""
        if self._let_go is not None:
            self._let_go.cancel()
            self._let_go = None

    def gateway_lost(self) -> None:
        """Nobody can say any more whether the clients' keys still hold."""
        if self._let_go is None:
            loop = asyncio.get_running_loop()
            self._let_go = loop.call_later(self._kept_s, self._close_all)

    def drop(self, connection_id: str, code: int, reason: str) -> None:
        """Close one link, because the gateway says so; unknown ones have just ended."""
        transport = self._transports.get(connection_id)
        if transport is not None:
            closing = asyncio.ensure_future(transport.close(code, reason))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def close(self) -> None:
        """Stop taking sockets and drop all links."""
        self.gateway_found()
        loop = asyncio.get_running_loop()
        for line in (*self._lines, *([self._listening] if self._listening else [])):
            loop.remove_reader(line)
            line.close()
        self._lines.clear()
        self._listening = None
        for task in (*self._links, *self._closing):
            task.cancel()
        with suppress(OSError):
            self.path.unlink()

    def _close_all(self) -> None:
        self._let_go = None
        if self._transports:
            log.info("the gateway is away, its clients are let go: %d", len(self._transports))
        for connection_id in list(self._transports):
            self.drop(connection_id, GOING_AWAY, "the gateway is away")

    # --- sockets arrive --------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listening is not None  # noqa: S101  (else nothing is accepted)
        with suppress(BlockingIOError, ConnectionError):
            line, _ = self._listening.accept()
            if _peer_uid(line) != os.getuid():
                log.warning("another user tried to hand over a socket")
                line.close()
                return
            line.setblocking(False)  # noqa: FBT003  (its only argument)
            self._lines.add(line)
            asyncio.get_running_loop().add_reader(line, self._receive, line)

    def _receive(self, line: socket.socket) -> None:
        """One note with one socket, or the end of a line that was not needed."""
        asyncio.get_running_loop().remove_reader(line)
        self._lines.discard(line)
        with line:
            try:
                data, numbers, _, _ = socket.recv_fds(
                    line, _MAX_NOTE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
        sockets = [socket.socket(fileno=number) for number in numbers]
        try:
            note = LinkNote.from_wire(data) if data else None
        except ValueError:
            log.warning("a socket came with a note that cannot be read")
            note = None
        if note is None or len(sockets) != 1:
            for unwanted in sockets:
                unwanted.close()
            return
        task = asyncio.ensure_future(self._serve_link(note, sockets[0]))
        self._links[task] = note
        task.add_done_callback(self._ended)

    async def _serve_link(self, note: LinkNote, connected: socket.socket) -> None:
        transport = self._transports[note.connection_id] = await adopt(connected)
        try:
            await self._serve(transport)
        finally:
            self._transports.pop(note.connection_id, None)
            await transport.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        note = self._links.pop(task)
        self.on_left(note.connection_id)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a link failed", exc_info=error)


def _peer_uid(line: socket.socket) -> int:
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(uid)


def _nobody_asks(_connection_id: str) -> None:
    """Before there is a gateway."""
