"""Joins a client's websocket and its host's data connection, frame by frame, unread.

No task and no queue per message: a frame is written to the other side as soon as it is whole, and
the side it came from is held while the other has no room. So the frames in flight are all that is
in memory: ``high_water_bytes`` and one frame for each direction.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from clouditia.errors import ClouditiaError, KernelNotFound
from clouditia_gateway.channels import close_codes

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from clouditia_gateway.channels.host_access import HostAccess
    from clouditia_gateway.channels.host_handlers import HostDataHandler
    from clouditia_gateway.channels.socket import ChannelSocket

log = logging.getLogger("clouditia.gateway")


class Relay:
    """Both directions of one resume link.

    Args:
        client: The client's socket, just opened.
        access: Opens the host's side; meanwhile one frame of the client is kept and the next held.
    """

    def __init__(self, client: ChannelSocket, access: HostAccess) -> None:
        self._client = client
        self._host: HostDataHandler | None = None
        self._early: deque[bytes] = deque()
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joining = asyncio.create_task(self._join(access))

    async def _join(self, access: HostAccess) -> None:
        try:
            host = await access.open_data()
        except KernelNotFound as error:
            self._client.shut(close_codes.UNKNOWN_KERNEL, error.message)
        except ClouditiaError as error:
            log.warning("kernel %s: no data connection: %s", access.kernel_id, error)
            self._client.shut(close_codes.HOST_LOST, error.message)
        else:
            self._host = host
            host.attach(self._client.forward, self._host_ended)
            while self._early:
                host.forward(self._early.popleft())
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if not self._joined.done():
            self._joined.set_result(None)

    def message_received(self, message: str | bytes) -> Awaitable[None] | None:
        """One frame of the client."""
        if isinstance(message, str):
            self._client.shut(close_codes.UNSUPPORTED_DATA, "link frames are binary")
            return None
        if self._host is not None:
            return self._host.forward(message)
        self._early.append(message)
        # The HELLO alone holds nobody, so that pings are answered while the host is awaited.
        return None if len(self._early) == 1 else asyncio.shield(self._joined)

    def detach(self, client: ChannelSocket) -> None:
        """The client is gone; so is its data connection."""
        self._joining.cancel()
        self._let_go()
        if self._host is None:
            return
        code = client.close_code
        if code is not None and close_codes.is_sendable(code):
            self._host.shut(code, client.close_reason or "")
        else:
            self._host.shut(close_codes.GOING_AWAY, "the client is gone")

    def _host_ended(self, code: int | None, reason: str) -> None:
        if code is not None and close_codes.is_sendable(code):
            self._client.shut(code, reason)
        else:
            self._client.shut(close_codes.HOST_LOST, "kernel host lost")
