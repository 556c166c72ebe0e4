"""The five local sockets of a kernel, bound where the connection file says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import zmq

from clouditia.errors import ConfigError
from clouditia.protocol.messages import CONTROL, IOPUB, SHELL, STDIN, Buffer
from clouditia.transport.zmq_endpoint import ZmqEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.connection_file import ConnectionInfo

__all__ = ["LocalSockets"]

#: A front end that restarts a kernel reuses its ports while the old process is still leaving.
_BIND_ATTEMPTS = 30
_BIND_PAUSE_S = 0.1
#: With more than this waiting for the front end, messages are no longer acknowledged, so that the
#: far side keeps the rest.
_MAX_PENDING_BYTES = 64 * 1024 * 1024
_REQUEST_CHANNELS = (SHELL, CONTROL, STDIN)


class LocalSockets:
    """ROUTER for shell, control, stdin and heartbeat, XPUB for iopub.

    Args:
        info: Addresses and keys.
        on_requests: Gets (channel, messages as ZMQ parts).
        on_subscribed: Gets the topic each time that a front end subscribes.
        on_drained: Called when :attr:`pending_bytes` may have fallen.
    """

    def __init__(
        self,
        info: ConnectionInfo,
        *,
        on_requests: Callable[[str, list[list[Buffer]]], None],
        on_subscribed: Callable[[bytes], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._info = info
        self._on_requests = on_requests
        self._on_subscribed = on_subscribed
        self._on_drained = on_drained
        # Its own context, so that closing ends every ZMQ thread of this bridge.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._endpoints: dict[str, ZmqEndpoint] = {}
        self._is_held = False

    @property
    def pending_bytes(self) -> int:
        """Bytes that the front ends have not taken yet."""
        return sum(endpoint.pending_bytes for endpoint in self._endpoints.values())

    @property
    def is_congested(self) -> bool:
        """Whether the front ends have too much to take already for more to be acknowledged."""
        return self.pending_bytes > _MAX_PENDING_BYTES

    async def bind(self) -> None:
        """Bind all five and begin to serve.

        Raises:
            ConfigError: an address stayed in use for 3 s, or cannot be bound.
        """
        for channel in _REQUEST_CHANNELS:
            await self._serve(channel, self._router(), self._receiver(channel))
        await self._serve("hb", self._router(), self._echo)
        await self._serve(IOPUB, self._publisher(), self._subscriptions)

    def send(self, channel: str, parts: list[Buffer]) -> None:
        """Send one message on a channel; never blocks."""
        self._endpoints[channel].send(parts)

    def hold_requests(self, *, hold: bool) -> None:
        """Stop (or go on) reading shell and stdin; control is always read."""
        if hold == self._is_held:
            return
        self._is_held = hold
        for channel in (SHELL, STDIN):
            endpoint = self._endpoints[channel]
            if hold:
                endpoint.pause_reading()
            else:
                endpoint.resume_reading()

    def close(self, linger_ms: int) -> None:
        """Close all; returns when the last messages are out, after ``linger_ms`` at the latest."""
        for endpoint in self._endpoints.values():
            endpoint.close(linger_ms)
        self._context.destroy(linger=linger_ms)

    def _receiver(self, channel: str) -> Callable[[list[list[Buffer]]], None]:
        return lambda messages: self._on_requests(channel, messages)

    def _echo(self, messages: list[list[Buffer]]) -> None:
        for parts in messages:
            self._endpoints["hb"].send(parts)

    def _subscriptions(self, messages: list[list[Buffer]]) -> None:
        for parts in messages:
            event = bytes(parts[0])
            if event[:1] == b"\x01":
                self._on_subscribed(event[1:])

    def _router(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.SNDHWM, 0)
        return socket

    def _publisher(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.XPUB)
        # At the high-water mark messages wait, here and then at the gateway, and are not lost.
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscriber is welcomed, not only the first
        return socket

    async def _serve(
        self,
        name: str,
        socket: zmq.Socket[bytes],
        on_messages: Callable[[list[list[Buffer]]], None],
    ) -> None:
        self._endpoints[name] = ZmqEndpoint(socket, on_messages, on_drained=self._on_drained)
        if self._info.curve_secretkey is not None and self._info.curve_publickey is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._info.curve_secretkey)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._info.curve_publickey)
        address = self._info.address(name)
        for attempt in range(_BIND_ATTEMPTS):
            try:
                socket.bind(address)
            except zmq.ZMQError as exc:
                if exc.errno != zmq.EADDRINUSE or attempt == _BIND_ATTEMPTS - 1:
                    raise ConfigError(
                        f"the {name} socket cannot be bound to {address}: {exc}"
                    ) from exc
            else:
                return
            await asyncio.sleep(_BIND_PAUSE_S)
