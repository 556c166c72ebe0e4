"""The life of one bridge: sockets, link and kernel from the start to the exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

from clouditia.bridge import stdin_commands as orders
from clouditia.bridge.composing import Composer
from clouditia.bridge.kernel import KernelChannels
from clouditia.bridge.kernel_end import KernelEnd
from clouditia.bridge.notices import AWAY, STARTING, OthersNotice, WaitNotice, tell
from clouditia.bridge.policy import Ending, Fate, Occasion, describe_death, fate_of_kernel
from clouditia.bridge.remote_side import make_remote_side
from clouditia.bridge.replays import Replays
from clouditia.bridge.signals import on_signals
from clouditia.bridge.sockets import LocalSockets
from clouditia.bridge.starting import AnnouncedStart, Start
from clouditia.bridge.state_file import StateFile
from clouditia.bridge.wishes import FrontEndWishes
from clouditia.errors import ClouditiaError, PackageTooLarge
from clouditia.protocol.messages import Buffer, Signer, encode_v1
from clouditia.protocol.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.bridge.connection_file import ConnectionInfo
    from clouditia.bridge.options import BridgeOptions
    from clouditia.bridge.parent import ParentWatch
    from clouditia.bridge.remote_side import RemoteSide
    from clouditia.protocol.handshake import Welcome
    from clouditia.rest import GatewayClient
    from clouditia.settings import Target

__all__ = ["Bridge"]

log = logging.getLogger("clouditia.bridge")

_PARENT_CHECK_S = 1.0
#: After a kernel's death: time for the replies with the cause.
_DEATH_REPLIES_S = 1.0
#: After SIGTERM the bridge is out in less than 0.5 s; whoever gives an order in words has time.
_QUICK_END_S = 0.35
_ORDERLY_END_S = 3.0
_START_ANSWER_S = 0.1
_SUBSCRIBER_S = 30.0
_LINGER_MS = 100
#: To say goodbye; to close what did not; the second cancel ends even a websocket that hangs.
_CLOSE_PATIENCES_S = (0.1, 0.03, 0.02)


class Bridge:
    """One local kernel in front of one remote kernel.

    Args:
        options: What the front end asked for.
        info: Where to bind.
        target: The gateway.
        connect_rest: Gives its REST interface, which most bridges need only at their end.
        start: The start of the kernel, already under way.
        parent: The front end's process.
    """

    def __init__(
        self,
        options: BridgeOptions,
        info: ConnectionInfo,
        target: Target,
        connect_rest: Callable[[], GatewayClient],
        start: Start,
        parent: ParentWatch,
    ) -> None:
        self._options = options
        self._target = target
        self._connect_rest = connect_rest
        self._kernel_end = KernelEnd(connect_rest)
        self._start = start
        self._parent = parent
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._has_subscriber = asyncio.Event()
        self._state_file = StateFile(options.connection_file)
        self._composer = Composer()
        self._outbox = Outbox()
        self._sockets = LocalSockets(
            info,
            on_requests=self._take_requests,
            on_subscribed=self._subscribed,
            on_drained=self._drained,
        )
        self._wishes = FrontEndWishes(self._loop, finish=self._finish, is_guest=options.is_guest)
        self._channels = KernelChannels(
            Signer(info.key, info.signature_scheme),
            self._composer,
            send_local=self._sockets.send,
            send_remote=self._send_remote,
            wishes=self._wishes,
            on_notice=self._noticed,
            on_replay_request=lambda request: self._replays.requested(request),
        )
        self._wishes.attach(self._channels)
        self._replays = Replays(
            self._channels,
            send_command=self._send_command,
            remote=lambda: self._link,
            is_congested=lambda: self._sockets.is_congested,
        )
        self._wait = WaitNotice(self._loop, f"gateway {target.name!r}", self._channels.tell_waiting)
        self._others = OthersNotice(self._loop, self._channels)
        self._link: RemoteSide | None = None
        self._link_task: asyncio.Task[None] | None = None
        self._death: Ending | None = None
        self._epoch: int | None = None
        self._revived_epoch: int | None = None  # dead when we attached; told to restart

    async def run(self) -> int:
        """Serve until something ends the bridge; returns the exit code.

        Raises:
            ClouditiaError: no kernel could be had.
        """
        try:
            return await self._serve()
        except ClouditiaError:
            await self._end_new_kernel()
            raise
        finally:
            self._start.give_up()
            self._sockets.close(_LINGER_MS)

    async def _serve(self) -> int:
        await self._sockets.bind()
        self._watch()
        self._wait.begin(STARTING)
        link = self._make_link()
        await self._started_or_ended()
        if not self._ended.done():
            self._start.result.result()
            self._connect(link)
        ending = await self._ended
        await self._leave(ending)
        return ending.exit_code

    # --- start ----------------------------------------------------------------------------------

    async def _started_or_ended(self) -> None:
        started = asyncio.wrap_future(self._start.result)
        either: list[asyncio.Future[Any]] = [started, self._ended]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                # A kernel can be ended only once it has been started.
                self._start.give_up()
                await asyncio.wait([started], timeout=_START_ANSWER_S)
        finally:
            started.cancel()

    def _watch(self) -> None:
        """Notice signals, the parent's end and the provisioner's orders."""
        on_signals(
            self._loop,
            SIGTERM=self._terminated,
            SIGINT=self._interrupt,
            SIGHUP=self._parent_gone,
        )
        self._check_parent()
        if self._options.is_managed:
            orders.read_commands(self._command_from_thread)

    def _check_parent(self) -> None:
        if not self._parent.is_alive():
            self._parent_gone()
        elif not self._ended.done():
            self._loop.call_later(_PARENT_CHECK_S, self._check_parent)

    def _make_link(self) -> RemoteSide:
        # Imports much: the ports are bound by now, and the gateway is starting the kernel.
        self._link = make_remote_side(
            self._target,
            self._channels,
            self._sockets,
            self._outbox,
            composer=self._composer,
            connect_rest=self._connect_rest,
        )
        return self._link

    def _connect(self, link: RemoteSide) -> None:
        kernel_id = self._start.kernel_id
        self._channels.kernel_id = kernel_id
        self._state_file.write(kernel_id=kernel_id, epoch=None, state="starting")
        self._wait.begin(AWAY)
        self._link_task = self._loop.create_task(self._run_link(link, kernel_id))

    async def _run_link(self, link: RemoteSide, kernel_id: str) -> None:
        is_new = self._options.is_new
        if not is_new:
            # What an attached kernel has to say would be lost on a front end that does not listen.
            try:
                await asyncio.wait_for(self._has_subscriber.wait(), _SUBSCRIBER_S)
            except TimeoutError:
                log.info("no front end has subscribed within %.0f s", _SUBSCRIBER_S)
        connection = link.connect(
            kernel_id, is_new=is_new, on_welcome=self._welcomed, on_offline=self._went_offline
        )
        gc.collect()
        gc.freeze()
        error = await connection.run()
        self._finish(Ending(error.exit_code, "died", str(error)))

    # --- between front end and link -------------------------------------------------------------

    def _take_requests(self, channel: str, messages: list[list[Buffer]]) -> None:
        self._channels.from_front_end(channel, messages)
        self._others.asked()

    def _send_remote(self, parts: list[Buffer]) -> None:
        if self._link is None:
            self._outbox.append(parts)
        else:
            self._link.send(parts)

    def _subscribed(self, topic: bytes) -> None:
        self._channels.subscribed(topic)
        self._has_subscriber.set()

    def _drained(self) -> None:
        if self._link is not None:
            self._link.drained()
            self._replays.drained()

    def _welcomed(self, welcome: Welcome) -> None:
        self._wait.end()
        self._channels.is_online = True
        state = str(welcome.state.get("execution_state", ""))
        is_attaching = self._epoch is None and not self._options.is_new
        if is_attaching and state == "busy":
            self._channels.found_busy()
        self._change_epoch(welcome.epoch)
        if state == "dead" and is_attaching:
            # It died before we came, and the gateway had not heard of it when we asked.
            self._revived_epoch = welcome.epoch
            self._send_command("restart")
        elif state == "dead" and self._revived_epoch != welcome.epoch:
            self._kernel_died(welcome.state.get("exit") or {})

    def _went_offline(self, error: ClouditiaError) -> None:
        log.info("offline: %s", error.code)
        self._channels.is_online = False
        self._wait.begin(AWAY)

    def _change_epoch(self, epoch: int) -> None:
        if self._epoch is not None and epoch > self._epoch:
            self._channels.epoch_changed()
            self._wishes.is_restarting = False
            self._death = None
        self._epoch = epoch
        self._state_file.write(kernel_id=self._start.kernel_id, epoch=epoch, state="running")

    # --- the kernel's own end -------------------------------------------------------------------

    def _noticed(self, msg_type: str, content: dict[str, Any]) -> None:
        epoch = content.get("epoch")
        is_current = self._epoch is None or epoch is None or epoch >= self._epoch
        if msg_type == "kernel_state" and is_current:
            # To JupyterLab this status means a crash, so it is only for the restarts of others.
            if content.get("execution_state") == "restarting" and not self._wishes.is_restarting:
                self._channels.publish(self._composer.status("restarting"))
            if isinstance(epoch, int):
                self._change_epoch(epoch)
        elif msg_type == "kernel_exited" and is_current and not content.get("expected"):
            if epoch != self._revived_epoch:  # else: known, and being mended
                self._kernel_died(content)
        elif msg_type == "command_reply" and not self._replays.answered(content):
            if not content.get("ok") and self._revived_epoch == self._epoch:
                self._kernel_died({"reason": (content.get("error") or {}).get("message")})
        elif msg_type == "kernel_ended":
            self._kernel_end.is_confirmed.set()
            self._wishes.kernel_ended()
            self._finish(Ending(0, "ended", str(content.get("reason") or "shut down")))

    def _kernel_died(self, content: dict[str, Any]) -> None:
        """Exit once the pending requests have got their answers, so that the front end restarts."""
        if self._death is not None:
            return
        reason, last_stderr = describe_death(content)
        # The provisioner restarts the same kernel; whoever started this bridge alone does not.
        is_ours = self._options.is_new and not self._options.is_managed
        must_end = is_ours and self._fate_on(Occasion.KERNEL_DIED) is Fate.ENDED
        self._death = Ending(1, "died", reason, must_end_kernel=must_end)
        tell(reason + (f"\n{last_stderr}" if last_stderr else ""))
        self._loop.call_later(
            _DEATH_REPLIES_S if self._channels.open_requests else 0.0,
            self._finish_dead,
            self._death,
        )

    def _finish_dead(self, death: Ending) -> None:
        if self._death is death:  # no restart came in between
            self._finish(death)

    # --- signals and orders ---------------------------------------------------------------------

    def _terminated(self) -> None:
        self._close_on(Occasion.TERMINATED)

    def _parent_gone(self) -> None:
        if not self._parent.is_alive() or self._options.is_managed:
            self._close_on(Occasion.PARENT_GONE)

    def _close_on(self, occasion: Occasion) -> None:
        must_end = self._fate_on(occasion) is Fate.ENDED
        state = "ended" if must_end else "detached"
        self._finish(Ending(0, state, occasion.value, must_end_kernel=must_end))

    def _fate_on(self, occasion: Occasion) -> Fate:
        return fate_of_kernel(
            occasion,
            on_close=self._target.on_close,
            is_parent_alive=self._parent.is_alive(),
            is_guest=self._options.is_guest,
        )

    def _command_from_thread(self, line: str) -> None:
        self._loop.call_soon_threadsafe(self._command, line)

    def _command(self, line: str) -> None:
        if line in (orders.INTERRUPT, orders.RESTART):
            self._send_command(line)
        elif line == orders.DETACH:
            self._close_on(Occasion.TOLD_TO_DETACH)
        elif line == orders.END:
            self._close_on(Occasion.TOLD_TO_END)
        elif line == orders.END_OF_INPUT:
            self._close_on(Occasion.PARENT_GONE)
        elif not (isinstance(self._start, AnnouncedStart) and self._start.hear(line)):
            log.warning("unknown command on stdin")

    def _interrupt(self) -> None:
        self._send_command("interrupt")

    def _send_command(self, command: str, **fields: object) -> str:
        command_id, message = self._composer.command(command, **fields)
        try:
            self._send_remote(encode_v1(message))
        except PackageTooLarge as exc:
            log.warning("the command %s could not be queued: %s", command, exc)
        return command_id

    # --- end ------------------------------------------------------------------------------------

    def _finish(self, ending: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(ending)

    async def _leave(self, ending: Ending) -> None:
        self._wait.cancel()
        self._others.cancel()
        self._wishes.close()
        if ending.exit_code and ending is not self._death:
            tell(ending.reason)
        if ending.must_end_kernel:
            is_quick = ending.reason == Occasion.TERMINATED.value
            await self._end_kernel(_QUICK_END_S if is_quick else _ORDERLY_END_S)
        self._state_file.write(
            kernel_id=self._start.kernel_id,
            epoch=self._epoch,
            state=ending.state,
            reason=ending.reason,
        )
        await self._close_link()

    async def _end_new_kernel(self) -> None:
        """The bridge could not begin to serve: leave no kernel behind that nobody knows."""
        is_failed = self._start.result.done() and self._start.result.exception() is not None
        if self._options.is_new and not is_failed:
            await self._end_kernel(_ORDERLY_END_S)

    async def _end_kernel(self, patience_s: float) -> None:
        """Tell host and gateway; the bridge waits for an answer only for a moment."""
        if self._link is not None and self._link.is_online:
            self._send_command("shutdown")
        await self._kernel_end.over_rest(self._start.kernel_id, patience_s)

    async def _close_link(self) -> None:
        if self._link_task is None:
            return
        await self._replays.close()
        if self._link is not None:
            self._link.say_goodbye()
        for patience_s in _CLOSE_PATIENCES_S:
            await asyncio.wait({self._link_task}, timeout=patience_s)
            self._link_task.cancel()
