"""A client's way to its kernel's host, through ownership and through a host that is away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clouditia.errors import LaunchTimeout

if TYPE_CHECKING:
    from clouditia_gateway.channels.host_handlers import HostDataHandler
    from clouditia_gateway.context import GatewayContext
    from clouditia_gateway.records import Principal

#: How long a client waits for a host that is away.
HOST_WAIT_S = 30.0


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

    async def _open_data(self) -> HostDataHandler:
        hub = self.context.hub
        record = self.context.registry.get_kernel(self.kernel_id, self.principal)
        if not hub.is_connected(self.kernel_id):
            await self.context.registry.ensure_host(record)
            await hub.wait_connected(self.kernel_id, HOST_WAIT_S)
        client = {"user": self.principal.user, "name": self.name}
        return await hub.open_data(self.kernel_id, client, HOST_WAIT_S)
