"""A client that is nothing but a link: what the SDK and the bridge are made of."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clouditia.bridge.link_access import LinkAccess
from clouditia.errors import ClouditiaError
from clouditia.protocol.handshake import START_LATEST, Hello
from clouditia.protocol.link import Delivered, Event, GapSeen, Link, Online, Role
from clouditia.protocol.messages import Message, decode_json, decode_v1, encode_json, encode_v1
from clouditia.protocol.outbox import Outbox
from clouditia.rest import GatewayClient
from clouditia.settings import Target
from clouditia.testing.chaos import LineOracle, NumberedLines
from clouditia.testing.waiting import wait_until
from clouditia.transport.link_connection import LinkConnection

WAIT_S = 60.0


class BareLink:
    """One link to a kernel, with a thread and an event loop of its own.

    Attributes:
        messages: What came, in order, as ``jupyter_client`` would return it.
        arrivals: When printed text came, on the monotonic clock.
        gaps: Numbers that the host said are gone.
        ups: When the link went online.
        downs: When it noticed that it was not.
    """

    def __init__(self, target: Target, kernel_id: str, *, start: str | int = START_LATEST) -> None:
        self.messages: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.gaps: list[GapSeen] = []
        self.ups: list[float] = []
        self.downs: list[float] = []
        self._kernel_id = kernel_id
        self._access = LinkAccess(target)
        self._session = uuid.uuid4().hex
        self._outbox = Outbox()
        hello = Hello(uuid.uuid4().hex, kernel_id, start=start, name="bare link")
        self._connection = LinkConnection(
            lambda: self._access.open(kernel_id),
            Link(Role.CLIENT, self._outbox, hello=hello),
            self._outbox,
            on_event=self._take,
            on_offline=self._went_down,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bare-link")

    def start(self) -> None:
        self._thread.start()
        self._running = asyncio.run_coroutine_threadsafe(self._connection.run(), self._loop)
        wait_until(lambda: self.ups, WAIT_S, what="the link is online")

    def close(self) -> None:
        self._running.cancel()

        async def drain() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(drain(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def execute(self, code: str) -> str:
        """Send code; returns the ``msg_id``."""
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": "execute_request",
            "session": self._session,
            "username": "ada",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "allow_stdin": False, "stop_on_error": True}
        frame = encode_v1(Message("shell", encode_json(header), b"{}", b"{}", encode_json(content)))
        self._loop.call_soon_threadsafe(self._connection.send, frame)
        return msg_id

    def of(self, msg_id: str) -> list[dict[str, Any]]:
        """All messages that answer a request."""
        return [each for each in self.messages if each["parent_header"].get("msg_id") == msg_id]

    def judge(self, lines: NumberedLines | int, msg_id: str) -> LineOracle:
        """What came for a cell so far."""
        oracle = LineOracle(lines)
        for message in self.of(msg_id):
            oracle.feed(message)
        return oracle

    def wait_done(self, msg_id: str, timeout_s: float = WAIT_S) -> None:
        """Wait for reply and idle."""
        wait_until(lambda: self.judge(1, msg_id).is_done, timeout_s, what="the end", interval_s=0.1)

    def run(self, code: str) -> str:
        """Execute to the end; returns what was printed."""
        msg_id = self.execute(code)
        self.wait_done(msg_id)
        streams = [m for m in self.of(msg_id) if m["header"]["msg_type"] == "stream"]
        return "".join(each["content"]["text"] for each in streams)

    def _take(self, event: Event) -> None:
        if isinstance(event, Delivered):
            message = decode_v1(event.frame)
            fields = {
                name: decode_json(getattr(message, name))
                for name in ("header", "parent_header", "content")
            }
            self.messages.append(fields)
            if fields["header"]["msg_type"] == "stream":
                self.arrivals.append(time.monotonic())
            self._connection.handled(event.seq)
        elif isinstance(event, GapSeen):
            self.gaps.append(event)
            self._connection.handled(event.last)
        elif isinstance(event, Online):
            self.ups.append(time.monotonic())

    def _went_down(self, _reason: ClouditiaError) -> None:
        self.downs.append(time.monotonic())


@contextmanager
def remote_kernel(target: Target) -> Iterator[str]:
    """Start a kernel over REST; returns its id, ends it after the block."""
    rest = GatewayClient(target)
    kernel_id = str(rest.start_kernel("python3", env={}, path="")["id"])
    try:
        yield kernel_id
    finally:
        rest.shutdown(kernel_id)


@contextmanager
def bare_link(target: Target, kernel_id: str, **options: Any) -> Iterator[BareLink]:
    """A link that is online."""
    link = BareLink(target, kernel_id, **options)
    link.start()
    try:
        yield link
    finally:
        link.close()
