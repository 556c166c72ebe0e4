"""Cells of a page that was away: their messages again, for a front end that asks by ``msg_id``.

A front end that comes back (a reloaded page, another local server) knows the ids of the requests
that it sent, but has missed messages. It sends ``clouditia_replay_request`` on control; the kernel
host says where the messages of that request are, a link of our own reads them from there on, and
they go out once more under their old parent, followed by the live ones, until the request is done.
Meanwhile the bridge's main link leaves them out, so that none overtakes an older one.

Requests that come together (all cells of a notebook) share one link.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clouditia.errors import RemoteProtocolError
from clouditia.protocol.messages import CLOUDITIA, IOPUB, STDIN, Message, decode_json, decode_v1

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.kernel import KernelChannels, Request
    from clouditia.bridge.remote_side import RemoteSide
    from clouditia.protocol.link import Event
    from clouditia.transport.link_connection import LinkConnection

__all__ = ["Replays"]

#: Requests of one page come within milliseconds.
_TOGETHER_S = 0.05
_GOODBYE_S = 0.2


@dataclass
class _Wanted:
    """One request whose messages are wanted again."""

    msg_id: str
    first: int
    after: int  # from here on its messages are new
    prompt: int | None  # the question that waits for an answer
    replied: bool = False
    idle_seen: bool = False

    @property
    def is_done(self) -> bool:
        return self.replied and self.idle_seen


@dataclass
class _Batch:
    """What one link reads."""

    wanted: dict[str, _Wanted] = field(default_factory=dict)
    connection: LinkConnection | None = None
    unacknowledged: int | None = None


class Replays:
    """All replays of one bridge.

    Args:
        channels: Publishes the messages, and leaves out those of the main link meanwhile.
        send_command: Sends a command to the kernel host; returns its id.
        remote: Where to listen, once there is such a side.
        is_congested: Whether the front end has too much to read already.
    """

    def __init__(
        self,
        channels: KernelChannels,
        *,
        send_command: Callable[..., str],
        remote: Callable[[], RemoteSide | None],
        is_congested: Callable[[], bool],
    ) -> None:
        self._channels = channels
        self._send_command = send_command
        self._remote = remote
        self._is_congested = is_congested
        self._asked: dict[str, Request] = {}  # by id of the command
        self._next = _Batch()
        self._batches: list[_Batch] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # --- from the front end ---------------------------------------------------------------------

    def requested(self, request: Request) -> None:
        """A front end wants the messages of ``content.msg_id`` again."""
        msg_id = str(decode_json(request.message.content).get("msg_id", ""))
        remote = self._remote()
        if remote is None or not remote.can_replay:
            self._refuse(request, "this server does not keep what a kernel has said")
        else:
            self._stop(msg_id)  # another page: it needs them from the first on
            self._asked[self._send_command("find", msg_id=msg_id)] = request

    def _stop(self, msg_id: str) -> None:
        for batch in (self._next, *self._batches):
            if batch.wanted.pop(msg_id, None) and not batch.wanted and batch.connection:
                batch.connection.say_goodbye()

    def answered(self, content: dict[str, Any]) -> bool:
        """A command came back; False if it was none of ours."""
        request = self._asked.pop(str(content.get("id")), None)
        if request is None:
            return False
        if content.get("ok"):
            self._found(request, content)
        else:
            error = content.get("error")
            self._refuse(request, str((error or {}).get("message")))
        return True

    def _found(self, request: Request, content: dict[str, Any]) -> None:
        msg_id = str(decode_json(request.message.content).get("msg_id", ""))
        prompt = content.get("prompt")
        wanted = _Wanted(
            msg_id,
            int(content.get("first") or 1),
            int(content.get("next") or 1),
            prompt if isinstance(prompt, int) else None,
        )
        self._channels.begin_replay(msg_id, request.route)
        self._answer(request, {"found": True})
        if not self._next.wanted:
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._begin)
        self._next.wanted[msg_id] = wanted

    def _answer(self, request: Request, content: dict[str, Any]) -> None:
        self._channels.reply(request, {"status": "ok", **content})

    def _refuse(self, request: Request, reason: str) -> None:
        msg_id = str(decode_json(request.message.content).get("msg_id", ""))
        if self._channels.is_replayed(msg_id):
            self._channels.end_replay(msg_id, 0)
        self._answer(request, {"found": False, "reason": reason})

    # --- one batch ------------------------------------------------------------------------------

    def _begin(self) -> None:
        batch, self._next = self._next, _Batch()
        if not batch.wanted:  # all of it is wanted anew
            return
        task = asyncio.get_running_loop().create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: _Batch) -> None:
        remote = self._remote()
        if remote is None:
            return
        start = min(each.first for each in batch.wanted.values())
        connection = remote.listen(start, lambda event: self._hear(batch, event))
        batch.connection = connection
        self._batches.append(batch)
        try:
            await connection.run()
        finally:
            self._batches.remove(batch)
            for msg_id in batch.wanted:  # the kernel or the key is gone
                self._channels.end_replay(msg_id, 0)

    def drained(self) -> None:
        """The front end took what was waiting: acknowledge what was held back."""
        for batch in self._batches:
            if batch.unacknowledged is not None and batch.connection is not None:
                batch.connection.handled(batch.unacknowledged)
                batch.unacknowledged = None

    async def close(self) -> None:
        """Leave: no replay outlives the bridge."""
        for batch in self._batches:
            if batch.connection is not None:
                batch.connection.say_goodbye()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GOODBYE_S)
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- messages -------------------------------------------------------------------------------

    def _hear(self, batch: _Batch, event: Event) -> None:
        from clouditia.protocol.link import Delivered, GapSeen  # not before the ports are bound

        if isinstance(event, Delivered):
            with contextlib.suppress(RemoteProtocolError):  # the main link logs malformed ones
                self._pass(batch, event.seq, decode_v1(event.frame))
            self._handled(batch, event.seq)
        elif isinstance(event, GapSeen):
            for wanted in batch.wanted.values():
                if wanted.first <= event.last:
                    self._channels.tell_lost(wanted.msg_id, event.info)
            self._handled(batch, event.last)

    def _handled(self, batch: _Batch, seq: int) -> None:
        if self._is_congested():
            batch.unacknowledged = seq
        elif batch.connection is not None:
            batch.unacknowledged = None
            batch.connection.handled(seq)

    def _pass(self, batch: _Batch, seq: int, message: Message) -> None:
        msg_id = str(decode_json(message.parent_header).get("msg_id", ""))
        wanted = batch.wanted.get(msg_id)
        if wanted is None or message.channel == CLOUDITIA:
            return
        if message.channel == STDIN:
            # A question that somebody answered already would only be in the way.
            if seq == wanted.prompt or seq >= wanted.after:
                self._channels.pass_replayed(message)
            return
        self._channels.pass_replayed(message)
        if message.channel != IOPUB:
            wanted.replied = True
        elif decode_json(message.content).get("execution_state") == "idle":
            wanted.idle_seen = True
        if wanted.is_done:
            del batch.wanted[msg_id]
            self._channels.end_replay(msg_id, seq)
            if not batch.wanted and batch.connection is not None:
                batch.connection.say_goodbye()
