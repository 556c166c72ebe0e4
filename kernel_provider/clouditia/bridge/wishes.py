"""What a front end's shutdown request means for the bridge: it ends after the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clouditia.bridge.policy import Ending, Occasion
from clouditia.protocol.messages import decode_json

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from clouditia.bridge.kernel import KernelChannels, Request

__all__ = ["FrontEndWishes"]

_SHUTDOWN_REPLY_S = 5.0
#: After the reply to a shutdown: time for the rest of its messages.
_LAST_MESSAGES_S = 0.3


class FrontEndWishes:
    """A :class:`~clouditia.bridge.kernel.ShutdownListener` that ends the bridge.

    A restart is the kernel host's: it restarts in place and replies. A shutdown ends the kernel,
    and the bridge after the reply. Where a front end only lets go of a kernel, the provisioner
    knows and has said so before.

    Args:
        loop: For timers.
        finish: Ends the bridge.
        is_guest: The kernel is somebody else's: a shutdown only lets go of it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        finish: Callable[[Ending], None],
        is_guest: bool = False,
    ) -> None:
        self._loop = loop
        self._finish = finish
        self._is_guest = is_guest
        #: The front end has asked for a restart, and so needs no news of it.
        self.is_restarting = False
        self._shutdown: Request | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._channels: KernelChannels

    def attach(self, channels: KernelChannels) -> None:
        """Where to answer; once, before the first message."""
        self._channels = channels

    def shutdown_requested(self, request: Request) -> bool:
        """A front end sent this ``shutdown_request``; returns whether it is for the kernel."""
        self.is_restarting = bool(decode_json(request.message.content).get("restart"))
        if self.is_restarting:
            return True
        if self._is_guest:
            self._answer(request)
            ending = Ending(0, "detached", Occasion.GUEST_LEFT.value)
            self._later(_LAST_MESSAGES_S, lambda: self._finish(ending))
            return False
        self._shutdown = request
        self._later(_SHUTDOWN_REPLY_S, self._shutdown_unanswered)
        return True

    def shutdown_replied(self, msg_id: str) -> None:
        """The kernel's reply to this shutdown request was handed to the front end."""
        if self._shutdown is not None and self._shutdown.msg_id == msg_id:
            self._shutdown = None
            ending = Ending(0, "ended", Occasion.SHUTDOWN_REQUEST.value)
            self._later(_LAST_MESSAGES_S, lambda: self._finish(ending))

    def kernel_ended(self) -> None:
        """The kernel is gone for good: a shutdown that waits for a reply is done."""
        if self._shutdown is not None:
            self._answer(self._shutdown)
            self._shutdown = None

    def close(self) -> None:
        """Stop waiting for anything."""
        for timer in self._timers:
            timer.cancel()

    def _shutdown_unanswered(self) -> None:
        if self._shutdown is not None:
            self._answer(self._shutdown)
            reason = f"{Occasion.SHUTDOWN_REQUEST.value}; no reply in {_SHUTDOWN_REPLY_S:.0f} s"
            self._finish(Ending(0, "ended", reason, must_end_kernel=True))

    def _answer(self, shutdown: Request) -> None:
        self._channels.reply(shutdown, {"status": "ok", "restart": False})

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, action))
