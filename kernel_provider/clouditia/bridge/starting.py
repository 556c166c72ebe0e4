"""Getting the remote kernel while the bridge is still importing: one REST call in a thread.

The thread runs in the bridge or, where there is one, in the provisioner: its process is warm, so
the kernel starts at once and the bridge beside it. The bridge then only hears how that went.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import threading
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from clouditia.bridge.in_thread import in_thread
from clouditia.bridge.options import kernel_environment
from clouditia.errors import (
    ClouditiaError,
    GatewayUnreachable,
    SessionError,
    error_from_wire,
)
from clouditia.rest_retry import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clouditia.bridge.options import BridgeOptions
    from clouditia.rest import GatewayClient

__all__ = ["AnnouncedStart", "KernelStart", "Start", "end_kernel"]

#: A front end that restarts starts the new kernel while the old one still holds its GPU.
_RETRIES = 10
_RETRY_PAUSE_S = 0.5
#: How long a gateway that does not answer may take to come back, for a start and for an end.
_START_PATIENCE_S, _END_PATIENCE_S = 5.0, 15.0
#: Between two questions for a kernel whose gateway is away.
_FIND_PAUSE_S = 1.0
_STARTED, _FAILED = "started", "failed"


class Start(Protocol):
    """How a bridge gets its kernel."""

    kernel_id: str
    result: concurrent.futures.Future[None]

    def give_up(self) -> None:
        """Start no further attempt."""


class KernelStart:
    """Starts or finds the kernel in a thread; ``result`` gives the error or None.

    The bridge chooses the id of a new kernel itself, so that it can end it whatever became of
    the answer.

    Args:
        client: The gateway.
        options: Which kernel.
        environ: Environment of the front end's kernel; some of it goes to the remote one.
    """

    def __init__(
        self,
        client: GatewayClient,
        options: BridgeOptions,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.kernel_id = options.kernel_id or str(uuid.uuid4())
        self._client = client
        self._options = options
        self._environ = environ
        self._is_given_up = threading.Event()
        work = self._start if options.kernel_id is None else self._find
        self.result: concurrent.futures.Future[None] = in_thread(work, "clouditia-start")

    def give_up(self) -> None:
        """Start no further attempt."""
        self._is_given_up.set()

    def abandon(self) -> None:
        """End the kernel, now or as soon as it turns out to have been started."""
        self.give_up()
        self.result.add_done_callback(self._end_if_started)

    def _end_if_started(self, result: concurrent.futures.Future[None]) -> None:
        if result.exception() is None:
            end_kernel(lambda: self._client, self.kernel_id)

    def announcement(self) -> str:
        """What an :class:`AnnouncedStart` is to be told once :attr:`result` is there."""
        error = self.result.exception()
        if error is None:
            return f"{_STARTED} {self.kernel_id}"
        known = error if isinstance(error, ClouditiaError) else SessionError(repr(error))
        return f"{_FAILED} {json.dumps(known.to_wire())}"

    def _start(self) -> None:
        for attempt in range(_RETRIES + 1):
            try:
                model = patiently(
                    self._start_once, _START_PATIENCE_S, is_given_up=self._is_given_up
                )
            except GatewayUnreachable as exc:
                if exc.details.get("sent"):
                    end_kernel(lambda: self._client, self.kernel_id)
                raise
            except ClouditiaError as exc:
                if not exc.retryable or attempt == _RETRIES:
                    raise
            else:
                self.kernel_id = str(model["id"])
                return
            if self._is_given_up.wait(_RETRY_PAUSE_S):
                raise SessionError("the start was given up")

    def _start_once(self) -> dict[str, Any]:
        return self._client.start_kernel(
            self._options.kernel,
            env=kernel_environment(self._environ),
            path=self._environ.get("JPY_SESSION_NAME", ""),
            kernel_id=self.kernel_id,
        )

    def _find(self) -> None:
        """The kernel exists, so a network that is away is only waited for."""
        while True:
            try:
                model = self._client.get_kernel(self.kernel_id)
                if model.get("execution_state") == "dead":
                    self._client.restart(self.kernel_id)
            except ClouditiaError as exc:
                if not exc.retryable:
                    raise
            else:
                return
            if self._is_given_up.wait(_FIND_PAUSE_S):
                raise SessionError("the search was given up")


class AnnouncedStart:
    """A start that the parent of this process carries out, and reports on stdin.

    Args:
        kernel_id: The id that the parent asks for.
    """

    def __init__(self, kernel_id: str) -> None:
        self.kernel_id = kernel_id
        self.result: concurrent.futures.Future[None] = concurrent.futures.Future()

    def give_up(self) -> None:
        """The parent is the one who tries; it notices our end."""

    def hear(self, line: str) -> bool:
        """Take a line of stdin; False if it is about something else."""
        word, _, rest = line.partition(" ")
        if word not in (_STARTED, _FAILED) or self.result.done():
            return False
        self.result.set_running_or_notify_cancel()
        if word == _STARTED:
            self.kernel_id = rest
            self.result.set_result(None)
        else:
            self.result.set_exception(error_from_wire(json.loads(rest)))
        return True


def end_kernel(
    connect: Callable[[], GatewayClient],
    kernel_id: str,
    *,
    on_done: Callable[[BaseException | None], None] = lambda failure: None,
) -> None:
    """End a kernel over REST in a thread of its own; whoever cannot wait need not.

    A gateway that is just restarting is waited for: a kernel that nobody ends holds its GPU.

    Args:
        connect: Gives the gateway; called in that thread.
        kernel_id: The kernel.
        on_done: Called in that thread with the error, or None.
    """

    def end() -> None:
        client = connect()
        patiently(lambda: client.shutdown(kernel_id), _END_PATIENCE_S)

    ended = in_thread(end, "clouditia-end")
    ended.add_done_callback(lambda done: on_done(done.exception()))
