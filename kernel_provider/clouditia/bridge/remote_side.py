"""What the bridge needs of the far side, whichever kind of server it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.composing import Composer
    from clouditia.bridge.kernel import KernelChannels
    from clouditia.bridge.sockets import LocalSockets
    from clouditia.errors import ClouditiaError
    from clouditia.protocol.handshake import Welcome
    from clouditia.protocol.link import Event
    from clouditia.protocol.messages import Buffer
    from clouditia.protocol.outbox import Outbox
    from clouditia.rest import GatewayClient
    from clouditia.settings import Target
    from clouditia.transport.link_connection import LinkConnection

__all__ = ["Connection", "RemoteSide", "make_remote_side"]


class Connection(Protocol):
    """Stays connected for as long as it runs."""

    async def run(self) -> ClouditiaError:
        """Connect and reconnect until an error that reconnecting cannot mend; returns it."""
        ...


class RemoteSide(Protocol):
    """Takes requests from the start on, and messages once there is a kernel."""

    @property
    def is_online(self) -> bool:
        """Whether messages flow now."""
        ...

    def connect(
        self,
        kernel_id: str,
        *,
        is_new: bool,
        on_welcome: Callable[[Welcome], None],
        on_offline: Callable[[ClouditiaError], None],
    ) -> Connection:
        """Prepare the connection to a kernel.

        Args:
            kernel_id: The kernel.
            is_new: Hear it from its first message on, else from its oldest unfinished request on
                (where the server can tell).
            on_welcome: Called each time that the kernel is connected.
            on_offline: Called when a connection that was online has ended.
        """
        ...

    @property
    def can_replay(self) -> bool:
        """Whether the server keeps what the kernel has said."""
        ...

    def listen(self, start: int, on_event: Callable[[Event], None]) -> LinkConnection:
        """Another link to the connected kernel, which only listens, from message ``start`` on."""
        ...

    def send(self, parts: list[Buffer]) -> None:
        """Queue a message for the kernel, with or without a connection.

        Raises:
            PackageTooLarge: the message, or all that wait together, are over the limit.
        """
        ...

    def drained(self) -> None:
        """The front end took what was waiting for it."""
        ...

    def say_goodbye(self) -> None:
        """Leave for good."""
        ...


def make_remote_side(
    target: Target,
    channels: KernelChannels,
    sockets: LocalSockets,
    outbox: Outbox,
    *,
    composer: Composer,
    connect_rest: Callable[[], GatewayClient],
) -> RemoteSide:
    """The far side of a target, by its kind; imports only what that kind needs.

    Args:
        target: The server.
        channels: Gets the kernel's messages.
        sockets: Held back while the outbox is full.
        outbox: Requests on their way to the kernel.
        composer: Writes messages in the place of the kernel.
        connect_rest: Gives the server's REST interface.
    """
    if target.kind == "plain":
        from clouditia.bridge.plain_side import PlainSide

        rest = connect_rest()
        return PlainSide(target, channels, sockets, outbox, composer=composer, rest=rest)
    from clouditia.bridge.link_side import LinkSide

    return LinkSide(target, channels, sockets, outbox)
