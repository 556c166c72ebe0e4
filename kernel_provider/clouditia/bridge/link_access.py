"""The way to the links of one gateway: where they are, and the credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from clouditia.protocol.handshake import SUBPROTOCOL
from clouditia.transport.dialling import first_to_open
from clouditia.transport.tls import policy_for
from clouditia.transport.websocket import connect

if TYPE_CHECKING:
    from clouditia.settings import Target
    from clouditia.transport.link_runner import FrameTransport

__all__ = ["LinkAccess", "channels_url"]


def channels_url(target: Target, kernel_id: str) -> str:
    """The websocket of a kernel."""
    return f"{target.url}/api/kernels/{quote(kernel_id, safe='')}/channels"


class LinkAccess:
    """For one target; its key is read now, because the file may change while a kernel lives.

    Args:
        target: The gateway.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._headers = target.authorization()
        self._tls = policy_for(target.url, ca_file=target.ca_file, pin=target.pin)

    async def open(self, kernel_id: str) -> FrameTransport:
        """Open a connection for a link; errors as :func:`clouditia.transport.websocket.connect`."""
        return await first_to_open(
            lambda: connect(
                channels_url(self._target, kernel_id),
                headers=self._headers,
                subprotocols=[SUBPROTOCOL],
                ssl=None if self._tls is None else self._tls.context,
            )
        )
