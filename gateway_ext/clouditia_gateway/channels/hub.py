"""Which kernel hosts are connected right now, and how to ask one for something.

One control connection per kernel; the newest fence wins. Nothing here survives the gateway, and
nothing has to: after a restart every host dials in again. Source: docs/host-protocol.md.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from clouditia import errors
from clouditia.errors import GatewayUnreachable, LaunchTimeout, error_from_wire
from clouditia_gateway.channels import close_codes
from clouditia_gateway.records import HostState

if TYPE_CHECKING:
    from clouditia_gateway.channels.host_handlers import HostDataHandler

log = logging.getLogger("clouditia.gateway")


class ControlConnection(Protocol):
    """What the hub needs of a host's control websocket."""

    @property
    def fence(self) -> int:
        """Number of the launch that this host belongs to."""
        ...

    def send_json(self, message: Mapping[str, Any]) -> None:
        """Send one JSON message; a connection that is gone swallows it."""
        ...

    def shut(self, code: int, reason: str) -> None:
        """Close with a code."""
        ...


class HostListener(Protocol):
    """Who is told about hosts: the kernel registry."""

    def host_connected(self, kernel_id: str, state: HostState) -> None:
        """A host's hello was accepted."""
        ...

    def state_changed(self, kernel_id: str, state: HostState) -> None:
        """A host reported a new state."""
        ...

    def host_lost(self, kernel_id: str) -> None:
        """A host's control connection ended; says nothing about its kernel."""
        ...


@dataclass
class _Host:
    connection: ControlConnection
    state: HostState
    replies: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Offer:
    kernel_id: str
    dialled: asyncio.Future[HostDataHandler]


class HostHub:
    """Live control connections of kernel hosts.

    Attributes:
        listener: Told about arrivals, states and losses, in order, on the event loop.
        closers: Called by :meth:`close_all`, for what lives on data connections.
    """

    def __init__(self) -> None:
        self.listener: HostListener | None = None
        self.closers: list[Callable[[], None]] = []
        self._hosts: dict[str, _Host] = {}
        self._states: dict[str, HostState] = {}
        self._offers: dict[str, _Offer] = {}
        self._data: dict[str, set[HostDataHandler]] = {}
        self._arrivals: dict[str, set[asyncio.Future[None]]] = {}

    def tell(self, kernel_id: str, message: Mapping[str, Any]) -> None:
        """Send the kernel's host a message that has no answer; one that is away misses it."""
        host = self._hosts.get(kernel_id)
        if host is not None:
            host.connection.send_json(message)

    # --- for the gateway -------------------------------------------------------------------------

    def is_connected(self, kernel_id: str) -> bool:
        """Whether the kernel's host has a control connection."""
        return kernel_id in self._hosts

    def state(self, kernel_id: str) -> HostState | None:
        """What the host said last, also after it was lost; ``None`` if it never spoke."""
        return self._states.get(kernel_id)

    def forget(self, kernel_id: str) -> None:
        """Drop what is known about a kernel that has ended."""
        self._states.pop(kernel_id, None)

    async def wait_connected(self, kernel_id: str, timeout_s: float) -> None:
        """Return when the kernel's host is connected.

        Raises:
            LaunchTimeout: it did not dial in within ``timeout_s`` seconds.
        """
        if kernel_id in self._hosts:
            return
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.setdefault(kernel_id, set()).add(arrival)
        try:
            async with asyncio.timeout(timeout_s):
                await arrival
        except TimeoutError as exc:
            raise LaunchTimeout(
                f"the host of kernel {kernel_id} did not connect within {timeout_s:.0f} s.",
                hint="Its host.log on the gateway says why.",
                retryable=True,
            ) from exc
        finally:
            waiting = self._arrivals.get(kernel_id, set())
            waiting.discard(arrival)
            if not waiting:
                self._arrivals.pop(kernel_id, None)

    async def request(
        self,
        kernel_id: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Ask the kernel's host to do something; returns its result.

        Raises:
            GatewayUnreachable: the host is not connected, or was lost before it answered.
            TimeoutError: no answer within ``timeout_s`` seconds.
            ClouditiaError: what the host answered.
        """
        host = self._connected(kernel_id)
        request_id = secrets.token_hex(8)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        host.replies[request_id] = reply
        host.connection.send_json(
            {"type": "request", "id": request_id, "method": method, "params": dict(params or {})}
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError as exc:
            raise errors.TimeoutError(
                f"the host of kernel {kernel_id} did not answer {method!r} within "
                f"{timeout_s:.0f} s.",
                retryable=True,
            ) from exc
        finally:
            host.replies.pop(request_id, None)

    async def open_data(
        self, kernel_id: str, client: Mapping[str, str], timeout_s: float
    ) -> HostDataHandler:
        """Ask the host to dial a data connection; returns the gateway's end of it.

        Args:
            kernel_id: Whose host.
            client: ``{"user", "name"}`` of the client that it is for.
            timeout_s: How long the host may take.

        Raises:
            GatewayUnreachable: the host is not connected, or was lost meanwhile.
            LaunchTimeout: it did not dial in time.
        """
        host = self._connected(kernel_id)
        connection_id = secrets.token_hex(16)
        dialled: asyncio.Future[HostDataHandler] = asyncio.get_running_loop().create_future()
        self._offers[connection_id] = _Offer(kernel_id, dialled)
        host.connection.send_json(
            {"type": "open", "connection_id": connection_id, "client": dict(client)}
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(dialled)
        except TimeoutError as exc:
            raise LaunchTimeout(
                f"the host of kernel {kernel_id} did not open a data connection within "
                f"{timeout_s:.0f} s.",
                retryable=True,
            ) from exc
        except asyncio.CancelledError:
            dialled.add_done_callback(_shut_unwanted)
            raise
        finally:
            del self._offers[connection_id]
            if not dialled.done():
                dialled.cancel()

    def close_all(self, code: int = close_codes.GOING_AWAY, reason: str = "gateway stops") -> None:
        """Close every host's connections; the kernels live on."""
        for close in self.closers:
            close()
        for connections in list(self._data.values()):
            for data in list(connections):
                data.shut(code, reason)
        for host in list(self._hosts.values()):
            host.connection.shut(code, reason)

    # --- for the host handlers -------------------------------------------------------------------

    def newest_fence(self, kernel_id: str) -> int:
        """Fence of the connected host; 0 for none."""
        host = self._hosts.get(kernel_id)
        return host.connection.fence if host else 0

    def host_arrived(self, kernel_id: str, connection: ControlConnection, state: HostState) -> None:
        """A host's hello was checked; it takes the place of an older one."""
        older = self._hosts.pop(kernel_id, None)
        if older is not None:
            self._retire(kernel_id, older, newer_fence=connection.fence)
        self._hosts[kernel_id] = _Host(connection, state)
        self._states[kernel_id] = state
        if self.listener is not None:
            self.listener.host_connected(kernel_id, state)
        for arrival in self._arrivals.pop(kernel_id, set()):
            if not arrival.done():
                arrival.set_result(None)

    def host_left(self, kernel_id: str, connection: ControlConnection) -> bool:
        """A control connection ended; returns whether it was the one that counted."""
        host = self._hosts.get(kernel_id)
        if host is None or host.connection is not connection:
            return False
        del self._hosts[kernel_id]
        self._fail_waiting(kernel_id, host)
        if self.listener is not None:
            self.listener.host_lost(kernel_id)
        return True

    def state_received(
        self, kernel_id: str, connection: ControlConnection, state: HostState
    ) -> None:
        """A host reported its state; one that was replaced is not listened to."""
        host = self._hosts.get(kernel_id)
        if host is None or host.connection is not connection:
            return
        host.state = self._states[kernel_id] = state
        if self.listener is not None:
            self.listener.state_changed(kernel_id, state)

    def reply_received(self, kernel_id: str, reply: Mapping[str, Any]) -> None:
        """A host answered a request; an answer nobody waits for is dropped."""
        host = self._hosts.get(kernel_id)
        waiting = host.replies.get(str(reply.get("id"))) if host else None
        if waiting is None or waiting.done():
            return
        if reply.get("ok") is True:
            result = reply.get("result")
            waiting.set_result(result if isinstance(result, dict) else {})
        else:
            error = reply.get("error")
            waiting.set_exception(error_from_wire(error if isinstance(error, dict) else {}))

    def data_dialled(self, kernel_id: str, connection_id: str, data: HostDataHandler) -> bool:
        """A host dialled a data connection; returns whether one with this id was asked for."""
        offer = self._offers.get(connection_id)
        if offer is None or offer.kernel_id != kernel_id or offer.dialled.done():
            return False
        self._data.setdefault(kernel_id, set()).add(data)
        offer.dialled.set_result(data)
        return True

    def data_closed(self, kernel_id: str, data: HostDataHandler) -> None:
        """A data connection ended."""
        connections = self._data.get(kernel_id, set())
        connections.discard(data)
        if not connections:
            self._data.pop(kernel_id, None)

    # --- inside ----------------------------------------------------------------------------------

    def _connected(self, kernel_id: str) -> _Host:
        host = self._hosts.get(kernel_id)
        if host is None:
            raise _unreachable(kernel_id, "is not connected")
        return host

    def _retire(self, kernel_id: str, host: _Host, *, newer_fence: int) -> None:
        self._fail_waiting(kernel_id, host)
        if host.connection.fence == newer_fence:
            # The same host dialled again: its data connections, if alive, are as good as before.
            host.connection.shut(close_codes.REPLACED, "replaced by a newer connection")
            return
        for data in list(self._data.get(kernel_id, ())):
            if data.fence < newer_fence:
                data.shut(close_codes.NEWER_FENCE, "a newer host of this kernel was launched")
        host.connection.shut(close_codes.NEWER_FENCE, "a newer host of this kernel connected")

    def _fail_waiting(self, kernel_id: str, host: _Host) -> None:
        for reply in host.replies.values():
            if not reply.done():
                reply.set_exception(_unreachable(kernel_id, "was lost before it answered"))
        for offer in list(self._offers.values()):
            if offer.kernel_id == kernel_id and not offer.dialled.done():
                offer.dialled.set_exception(_unreachable(kernel_id, "was lost before it dialled"))


def _shut_unwanted(dialled: asyncio.Future[HostDataHandler]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().shut(close_codes.GOING_AWAY, "the client is gone")


def _unreachable(kernel_id: str, what: str) -> GatewayUnreachable:
    return GatewayUnreachable(
        f"the host of kernel {kernel_id} {what}; the kernel itself may well be running.",
        hint="It dials in again by itself; retry in a moment.",
        retryable=True,
    )
