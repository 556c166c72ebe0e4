"""The control connection to the gateway: dialled again for ever, because only that keeps a kernel.

The host outlives its gateway. What ends it is a refusal that says so: this kernel is unknown, or a
newer host serves it. Source: docs/host-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from clouditia import __version__
from clouditia.errors import ClouditiaError, GatewayUnreachable, RemoteProtocolError
from clouditia.protocol.handshake import PROTOCOL_VERSIONS
from clouditia.transport.link_runner import FrameTransport, TransportClosed
from clouditia.transport.tls import client_context
from clouditia.transport.websocket import WebSocketTransport, connect
from clouditia_gateway.channels.close_codes import GOING_AWAY, NEWER_FENCE, UNKNOWN_KERNEL
from clouditia_gateway.host.launch import LaunchSpec
from clouditia_gateway.host.lifespan import Policy
from clouditia_gateway.host.taken_sockets import TakenSockets

log = logging.getLogger("clouditia.host")

_FIRST_DELAY_S, _LAST_DELAY_S = 0.1, 2.0
_PING_INTERVAL_S = 10.0
_WELCOME_TIMEOUT_S = 20.0
_STATE_INTERVAL_S = 0.2


class Dismissed(ClouditiaError):
    """The gateway has no more use for this host."""

    code = "host_dismissed"


class Address(NamedTuple):
    """Where the gateway is, and the TLS context for it."""

    url: str
    context: ssl.SSLContext | None


def read_address(gateway_file: Path) -> Address:
    """Where the gateway is now.

    Raises:
        GatewayUnreachable: the file is missing or not what a gateway writes.
    """
    try:
        fields = json.loads(gateway_file.read_bytes())
        url, pin = str(fields["host_url"]).rstrip("/"), fields.get("tls_pin")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise GatewayUnreachable(f"no gateway address in {gateway_file.name}: {exc}") from exc
    context = client_context(None, pin).context if url.startswith(("https", "wss")) else None
    return Address(url, context)


class GatewayControl:
    """Keeps the host known to its gateway.

    Args:
        spec: Whose host, and how to find and convince the gateway.
        state: STATE of docs/host-protocol.md.
        on_request: Carries out ``interrupt``, ``restart`` or ``shutdown``.
        on_data: Serves one data connection to its end.
        taken: Clients whose sockets the gateway hands over; None if it cannot reach this machine.

    Attributes:
        policy: What the connected gateway says about the life of kernels; None while it is away.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        *,
        state: Callable[[], dict[str, Any]],
        on_request: Callable[[str], Awaitable[None]],
        on_data: Callable[[FrameTransport], Awaitable[None]],
        taken: TakenSockets | None = None,
    ) -> None:
        self._spec = spec
        self._taken = taken
        self._transport: WebSocketTransport | None = None
        self._state = state
        self._on_request, self._on_data = on_request, on_data
        self._headers = {"Authorization": f"Bearer {spec.token}"}
        self._tasks: set[asyncio.Task[None]] = set()
        self._state_changed = asyncio.Event()
        self._reported = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._told_life: tuple[object, object] | None = None
        self._last_problem = ""
        self.policy: Policy | None = None

    def state_changed(self) -> None:
        """Report the state soon; at once where a kernel process began or ended."""
        self._reported.clear()
        self._state_changed.set()
        if _life(self._state()) != self._told_life:
            self._is_urgent.set()

    async def flush(self, timeout: float) -> None:
        """Wait until the newest state was reported, at most ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._reported.wait()

    async def run(self) -> None:
        """Serve the gateway until it dismisses this host.

        Raises:
            Dismissed: this kernel is unknown there, or a newer host serves it.
        """
        delay = _FIRST_DELAY_S
        while True:
            try:
                await self._attempt()
            except Dismissed:
                raise
            except _Welcomed as exc:
                delay = _FIRST_DELAY_S
                self._note(str(exc))
            except (ClouditiaError, OSError) as exc:
                self._note(str(exc) or type(exc).__name__)
            except Exception:  # a border: whatever a gateway does, the kernel is kept
                log.exception("the control connection failed")
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            delay = min(2 * delay, _LAST_DELAY_S)

    async def _attempt(self) -> None:
        """Dial once and serve that connection to its end, which is always an exception."""
        address = read_address(self._spec.gateway_file)
        transport = await self._connect(address, "control", _PING_INTERVAL_S)
        try:
            await self._converse(transport, address)
        except TransportClosed as exc:
            if exc.close_code in (UNKNOWN_KERNEL, NEWER_FENCE):
                raise Dismissed(exc.message) from exc
            raise
        finally:
            await transport.close()

    def close(self) -> None:
        """Drop all data connections."""
        for task in self._tasks:
            task.cancel()

    def _note(self, problem: str) -> None:
        """Log a problem once, not at every attempt."""
        if problem != self._last_problem:
            log.info("gateway: %s", problem)
        self._last_problem = problem

    async def _connect(
        self, address: Address, route: str, ping_interval: float | None
    ) -> WebSocketTransport:
        return await connect(
            f"{address.url}/clouditia/host/v1/{self._spec.kernel_id}/{route}",
            headers=self._headers,
            ssl=address.context,
            ping_interval=ping_interval,
        )

    # --- one connection --------------------------------------------------------------------------

    async def _converse(self, transport: WebSocketTransport, address: Address) -> None:
        await _send(
            transport,
            type="hello",
            protocol=list(PROTOCOL_VERSIONS),
            version=__version__,
            kernel_id=self._spec.kernel_id,
            fence=self._spec.fence,
            state=self._state(),
            **(self._taken.offer if self._taken is not None else {}),
        )
        async with asyncio.timeout(_WELCOME_TIMEOUT_S):
            welcome = await _receive(transport)
        if welcome.get("type") != "welcome":
            raise RemoteProtocolError("the gateway's first message was not a welcome")
        self._note("connected")
        self.policy = Policy.from_wire(welcome.get("limits"))
        reporter = asyncio.create_task(self._report(transport))
        self._transport = transport
        if self._taken is not None:
            self._taken.on_left = self._link_left
            self._taken.gateway_found()
        try:
            while True:
                self._handle(transport, address, await _receive(transport))
        except TransportClosed as exc:
            raise _Welcomed(exc.message, close_code=exc.close_code) from exc
        finally:
            self._transport = None
            if self._taken is not None:
                self._taken.gateway_lost()
            self.policy = None
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    def _link_left(self, connection_id: str) -> None:
        """Say that a handed-over link has ended; who is away learns it from the next hello."""
        if self._transport is not None:
            self._start(_try_send(self._transport, type="left", connection_id=connection_id))

    async def _report(self, transport: WebSocketTransport) -> None:
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            self._is_urgent.clear()
            state = self._state()
            self._told_life = _life(state)
            await _send(transport, type="state", state=state)
            if not self._state_changed.is_set():
                self._reported.set()
            with suppress(TimeoutError):  # busy and idle may come in a quick row
                async with asyncio.timeout(_STATE_INTERVAL_S):
                    await self._is_urgent.wait()

    def _handle(
        self, transport: WebSocketTransport, address: Address, message: dict[str, Any]
    ) -> None:
        if message.get("type") == "open":
            self._start(self._open_data(address, str(message.get("connection_id"))))
        elif message.get("type") == "request":
            self._start(self._answer(transport, message))
        elif message.get("type") == "drop" and self._taken is not None:
            code = message.get("code")
            self._taken.drop(
                str(message.get("connection_id")),
                code if isinstance(code, int) else GOING_AWAY,
                str(message.get("reason", "")),
            )
        # Other types belong to newer gateways: what we do not know was not meant for us.

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_data(self, address: Address, connection_id: str) -> None:
        try:
            transport = await self._connect(address, f"data/{connection_id}", None)
        except ClouditiaError as exc:
            log.warning("a data connection could not be opened: %s", exc.message)
            return
        try:
            await self._on_data(transport)
        finally:
            await transport.close()

    async def _answer(self, transport: WebSocketTransport, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"type": "reply", "id": message.get("id")}
        try:
            await self._on_request(str(message.get("method")))
            reply |= {"ok": True, "result": {}}
        except ClouditiaError as exc:
            reply |= {"ok": False, "error": exc.to_wire()}
        await _try_send(transport, **reply)  # the gateway asks again when it is back


class _Welcomed(TransportClosed):
    """A connection that was served has ended: the next attempt need not wait long."""


def _life(state: dict[str, Any]) -> tuple[object, object]:
    """What a front end's restarter goes by: which process, and whether it is dead or in between."""
    execution_state = state.get("execution_state")
    return state.get("epoch"), execution_state in ("idle", "busy") or execution_state


async def _send(transport: WebSocketTransport, **message: Any) -> None:
    await transport.send_text(json.dumps(message))


async def _try_send(transport: WebSocketTransport, **message: Any) -> None:
    with suppress(TransportClosed):
        await _send(transport, **message)


async def _receive(transport: WebSocketTransport) -> dict[str, Any]:
    try:
        message = json.loads(await transport.receive_text())
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(f"the gateway sent what is not JSON: {exc}") from exc
    if not isinstance(message, dict):
        raise RemoteProtocolError("the gateway sent what is not a JSON object")
    return message
