"""A client's way to its kernel's host, through ownership and through a host that is away."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clouditia.errors import ClouditiaError, LaunchTimeout

if TYPE_CHECKING:
    from clouditia_gateway.channels.host_handlers import HostDataHandler
    from clouditia_gateway.context import GatewayContext
    from clouditia_gateway.records import Principal

#: How long a client waits for a host that is away.
HOST_WAIT_S = 30.0
#: How long an upgrade waits for it; clients give an upgrade 10 s.
_LINE_WAIT_S = 4.0


@dataclass(frozen=True)
class HostAccess:
    """Opens data connections to one kernel's host on behalf of one user.

    Attributes:
        context: The gateway's parts.
        kernel_id: Whose host.
        principal: For whom; asked about anew each time, because kernels end.
        name: What the client calls itself, for the host's log.
    """

    context: GatewayContext
    kernel_id: str
    principal: Principal
    name: str

    async def open_data(self) -> HostDataHandler:
        """The gateway's end of a fresh data connection.

        Raises:
            KernelNotFound: the kernel has ended, or is not this user's.
            GatewayUnreachable: its host was lost meanwhile.
            LaunchTimeout: its host did not come within 30 s.
        """
        try:
            async with asyncio.timeout(HOST_WAIT_S):
                return await self._open_data()
        except TimeoutError as exc:
            raise LaunchTimeout(
                f"the host of kernel {self.kernel_id} did not answer within {HOST_WAIT_S:.0f} s.",
                hint="The kernel may still run; try again.",
                retryable=True,
            ) from exc

    async def line(self) -> socket.socket | None:
        """A line to hand the client's socket over by; None where its link must be relayed.

        A host that is just starting or dialling in is waited for; one that is away for longer is
        left to the relay, which keeps the client company.
        """
        try:
            async with asyncio.timeout(_LINE_WAIT_S):
                await self._host_connected()
        except (ClouditiaError, TimeoutError):
            return None
        return self.context.handed_over.line_to(self.kernel_id)

    async def _open_data(self) -> HostDataHandler:
        await self._host_connected()
        client = {"user": self.principal.user, "name": self.name}
        return await self.context.hub.open_data(self.kernel_id, client, HOST_WAIT_S)

    async def _host_connected(self) -> None:
        record = self.context.registry.get_kernel(self.kernel_id, self.principal)
        if not self.context.hub.is_connected(self.kernel_id):
            await self.context.registry.ensure_host(record)
            await self.context.hub.wait_connected(self.kernel_id, HOST_WAIT_S)
