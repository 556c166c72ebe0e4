"""The bridge's end of the link: events in, acknowledgements and back-pressure out."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from clouditia.bridge.link_access import LinkAccess
from clouditia.bridge.notices import tell
from clouditia.protocol.handshake import START_UNFINISHED, Hello
from clouditia.protocol.link import Delivered, GapSeen, Link, Online, PeerAcked, Role
from clouditia.protocol.outbox import Outbox
from clouditia.transport.link_connection import LinkConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.kernel import KernelChannels
    from clouditia.bridge.sockets import LocalSockets
    from clouditia.errors import ClouditiaError
    from clouditia.protocol.handshake import Welcome
    from clouditia.protocol.link import Event
    from clouditia.settings import Target
    from clouditia.transport.link_runner import FrameTransport

__all__ = ["LinkSide"]


class LinkSide:
    """Owns the outbox from the start and the connection once there is a kernel.

    Args:
        target: The gateway.
        channels: Gets the kernel's messages.
        sockets: Held back while the outbox is full.
        outbox: Requests on their way to the kernel.
    """

    def __init__(
        self, target: Target, channels: KernelChannels, sockets: LocalSockets, outbox: Outbox
    ) -> None:
        self._channels = channels
        self._sockets = sockets
        self._outbox = outbox
        self._access = LinkAccess(target)
        self._connection: LinkConnection | None = None
        self._kernel_id = ""
        self._unacknowledged: int | None = None
        self._has_told_limits = False
        self._on_welcome: Callable[[Welcome], None] = lambda welcome: None

    @property
    def is_online(self) -> bool:
        """Whether messages flow now."""
        return self._connection is not None and self._connection.is_online

    @property
    def epoch(self) -> int | None:
        """The kernel's epoch as the last handshake said it."""
        return None if self._connection is None else self._connection.link.epoch

    def connect(
        self,
        kernel_id: str,
        *,
        is_new: bool,
        on_welcome: Callable[[Welcome], None],
        on_offline: Callable[[ClouditiaError], None],
    ) -> LinkConnection:
        """Make the connection to a kernel; its ``run`` is the caller's to start.

        Args:
            kernel_id: The kernel.
            is_new: Hear it from its first message on, else from its oldest unfinished request on.
            on_welcome: Called after each handshake.
            on_offline: Called when a connection that was online has ended.
        """
        self._on_welcome = on_welcome
        self._kernel_id = kernel_id
        hello = Hello(
            client_id=f"bridge-{uuid.uuid4()}",
            kernel_id=kernel_id,
            start=1 if is_new else START_UNFINISHED,
            name="clouditia-kernel",
        )
        link = Link(Role.CLIENT, self._outbox, hello=hello)
        self._connection = LinkConnection(
            self._open, link, self._outbox, on_event=self._on_event, on_offline=on_offline
        )
        return self._connection

    @property
    def can_replay(self) -> bool:
        """The kernel host keeps a journal."""
        return True

    def listen(self, start: int, on_event: Callable[[Event], None]) -> LinkConnection:
        """Another link to the connected kernel, which only listens, from message ``start`` on."""
        hello = Hello(f"replay-{uuid.uuid4()}", self._kernel_id, start=start, name="replay")
        outbox = Outbox()
        link = Link(Role.CLIENT, outbox, hello=hello)
        return LinkConnection(self._open, link, outbox, on_event=on_event)

    async def _open(self) -> FrameTransport:
        return await self._access.open(self._kernel_id)

    def send(self, parts: list[bytes | bytearray | memoryview]) -> None:
        """Queue a message for the kernel, with or without a connection.

        Raises:
            PackageTooLarge: the message, or all that wait together, are over the limit.
        """
        if self._connection is None:
            self._outbox.append(parts)
        else:
            self._connection.send(parts)
        if self._outbox.is_full:
            self._sockets.hold_requests(hold=True)

    def say_goodbye(self) -> None:
        """Tell the host, where it can be told now, that this client will not come back."""
        if self._connection is not None:
            self._connection.say_goodbye()

    def drained(self) -> None:
        """The front end took what was waiting: acknowledge what was held back."""
        seq = self._unacknowledged
        if seq is None or self._connection is None:
            return
        if not self._sockets.is_congested:
            self._unacknowledged = None
            self._connection.handled(seq)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Delivered):
            self._channels.from_kernel(event.frame, event.seq)
            self._handled(event.seq)
        elif isinstance(event, PeerAcked):
            if not self._outbox.is_full:
                self._sockets.hold_requests(hold=False)
        elif isinstance(event, GapSeen):
            info = event.info
            count = int(info.get("messages") or event.last - event.first + 1)
            reason = str(info.get("reason") or "no reason given")
            self._channels.messages_lost(count, int(info.get("bytes") or 0), reason)
            self._handled(event.last)
        elif isinstance(event, Online):
            self._tell_limits(event.welcome.state.get("limits"))
            self._on_welcome(event.welcome)

    def _tell_limits(self, limits: object) -> None:
        """Say once what may end this kernel, where somebody has set limits."""
        seconds = list(limits.values()) if isinstance(limits, dict) else []
        if seconds and not self._has_told_limits:
            self._has_told_limits = True
            tell(f"the gateway ends this kernel when nobody uses it for {min(seconds):g} s.")

    def _handled(self, seq: int) -> None:
        if self._sockets.is_congested:
            self._unacknowledged = seq
        elif self._connection is not None:
            self._unacknowledged = None
            # The link's own, not the connection's, which would wake the writer for each message:
            # whatever is due after an event goes out without that.
            self._connection.link.handled(seq)
