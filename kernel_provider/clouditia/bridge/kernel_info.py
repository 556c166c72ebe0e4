"""The kernel's own description, kept so that a busy or unreachable kernel can still give it.

Front ends ask ``kernel_info_request`` on shell, where a busy kernel answers only after its cell:
a notebook that is opened again beside a running cell would wait for hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clouditia.protocol.messages import Message, decode_json

if TYPE_CHECKING:
    from clouditia.protocol.messages import Buffer

__all__ = ["BusyRequests", "KernelInfoCache"]

_MAX_BUSY = 1000


class KernelInfoCache:
    """The content of the last good ``kernel_info_reply`` of one epoch."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def learn(self, reply: Message) -> bool:
        """Keep what the kernel replied; False for an error, which is not kept."""
        is_good = bool(decode_json(reply.content).get("status", "ok") == "ok")
        if is_good:
            self.content = bytes(reply.content)
        return is_good

    def forget(self) -> None:
        """Another kernel process may describe itself differently."""
        self.content = None


class BusyRequests:
    """The execute requests that the kernel is working on, from its status messages.

    Beside them those of this front end that were not answered yet, to be told why they wait.
    """

    def __init__(self) -> None:
        self._parents: dict[str, bytes] = {}
        self._asked: dict[str, bytes] = {}
        self._is_assumed = False

    def __bool__(self) -> bool:
        """Whether shell requests have to wait."""
        return self._is_assumed or bool(self._parents)

    @property
    def latest(self) -> bytes:
        """Encoded header of the request that began last; ``{}`` when none runs."""
        return next(reversed(self._parents.values()), b"{}")

    @property
    def waiting(self) -> bytes | None:
        """Encoded header of the request of this front end that was asked first."""
        return next(iter(self._asked.values()), None)

    @property
    def is_with_others(self) -> bool:
        """Whether requests of this front end wait for those of another."""
        is_ours = any(msg_id in self._asked for msg_id in self._parents)
        return bool(self._asked) and bool(self) and not is_ours

    def asked(self, msg_id: str, header: Buffer) -> None:
        """This front end wants something run."""
        if len(self._asked) < _MAX_BUSY:
            self._asked[msg_id] = bytes(header)

    def answered(self, msg_id: str) -> None:
        """It has got its reply."""
        self._asked.pop(msg_id, None)

    def status(self, execution_state: str, msg_id: str, parent: Buffer) -> None:
        """The kernel became busy or idle for an execute request."""
        self._parents.pop(msg_id, None)
        self._is_assumed = False
        if execution_state == "busy" and len(self._parents) < _MAX_BUSY:
            self._parents[msg_id] = bytes(parent)

    def assume(self) -> None:
        """The kernel was busy already; its next status for an execute request says more."""
        self._is_assumed = True

    def clear(self) -> None:
        """The kernel process is another one."""
        self._parents.clear()
        self._is_assumed = False
