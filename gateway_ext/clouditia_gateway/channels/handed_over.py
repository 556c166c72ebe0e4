"""Client sockets that are handed over to their kernel's host, on the machine that both run on.

The gateway has authenticated the client and answers its upgrade; then the host holds the socket
and no frame makes a detour. What stays here is who opened it, so that a revoked key still closes
it. Where a host cannot take sockets (TLS, another machine, a long path), links are relayed.
Source: docs/host-protocol.md.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.iostream import SSLIOStream

from clouditia_gateway.records import Principal

if TYPE_CHECKING:
    from pathlib import Path

    from tornado.iostream import IOStream

    from clouditia_gateway.live import LiveConnections

#: Tells one host to close one link: (kernel id, message).
Tell = Callable[[str, Mapping[str, Any]], None]


def path_offered(hello: Mapping[str, Any], directory: Path) -> str | None:
    """Where the host takes sockets, if it is where only a host of this machine can be."""
    offered = hello.get("takes_sockets")
    return offered if offered == str(directory / "take") else None


def open_line(path: str) -> socket.socket | None:
    """A line to a host, to send it one socket; None when it takes none now."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.setblocking(False)  # noqa: FBT003  (its only argument)
    try:
        line.connect(path)
    except OSError:
        line.close()
        return None
    return line


def can_be_handed(stream: IOStream) -> bool:
    """Whether the bytes on the wire are the frames, and all of ours are out."""
    return not isinstance(stream, SSLIOStream) and not stream.writing()


@dataclass
class _Host:
    path: str
    links: dict[str, Callable[[], None]] = field(default_factory=dict)


class HandedOver:
    """The hosts that take sockets, and the links that they hold, by connection id.

    Args:
        live: Told of each link, so that a revoked key closes it.
        tell: Sends a control message to a host.
    """

    def __init__(self, live: LiveConnections, tell: Tell) -> None:
        self._live = live
        self._tell = tell
        self._hosts: dict[str, _Host] = {}

    def host_arrived(self, kernel_id: str, path: str | None, links: object) -> None:
        """A host said hello: what it holds counts, whatever was known before."""
        self.host_left(kernel_id)
        if path is None:
            return
        self._hosts[kernel_id] = _Host(path)
        for note in links if isinstance(links, list) else ():
            with suppress(KeyError, TypeError):
                principal = Principal(str(note["user"]), str(note["key_id"]))
                self._remember(kernel_id, str(note["connection_id"]), principal)

    def host_left(self, kernel_id: str) -> None:
        """A host is away: it lets go of its links by itself, or lists them when it is back."""
        host = self._hosts.pop(kernel_id, None)
        _call_all(host.links.values() if host else ())

    def link_left(self, kernel_id: str, connection_id: str) -> None:
        """A host said that a link has ended."""
        host = self._hosts.get(kernel_id)
        forget = host.links.pop(connection_id, None) if host else None
        if forget is not None:
            forget()

    def line_to(self, kernel_id: str) -> socket.socket | None:
        """A line to the kernel's host, or None when the link must be relayed."""
        host = self._hosts.get(kernel_id)
        return None if host is None else open_line(host.path)

    def hand_over(
        self, kernel_id: str, principal: Principal, stream: IOStream, line: socket.socket
    ) -> bool:
        """Send the client's socket; returns whether the host has it now.

        The caller closes its own end of the stream then, and the line in any case.
        """
        if not can_be_handed(stream) or kernel_id not in self._hosts:
            return False
        note = {
            "connection_id": secrets.token_hex(16),
            "user": principal.user,
            "key_id": principal.key_id,
        }
        try:
            socket.send_fds(line, [json.dumps(note).encode()], [stream.socket.fileno()])
        except OSError:
            return False  # the host has just ended
        self._remember(kernel_id, note["connection_id"], principal)
        return True

    def _remember(self, kernel_id: str, connection_id: str, principal: Principal) -> None:
        def close(code: int, reason: str) -> None:
            message = {"connection_id": connection_id, "code": code, "reason": reason}
            self._tell(kernel_id, {"type": "drop", **message})

        links = self._hosts[kernel_id].links
        links[connection_id] = self._live.register(principal, close)


def _call_all(callbacks: Iterable[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
