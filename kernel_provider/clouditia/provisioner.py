"""Remote kernels for jupyter_client front ends: detach on close, restart in place, clear errors.

The kernelspec's ``argv`` alone already gives a working kernel (that is all VS Code knows). Where
jupyter_client is the front end, this provisioner starts the same program and adds what a process
cannot express:

- a server that stops lets go of its kernels; a user's "Shut Down" ends them;
- a restart keeps the bridge, its ports and the front end's connections; only the epoch rises;
- an interrupt that belongs to a shutdown never reaches a kernel that is to live on;
- a start that fails says why;
- a kernel starts at once, asked for by this warm process, while the bridge is still importing.

The order of calls is that of jupyter_client 8 (``KernelManager._async_shutdown_kernel``): an
interrupt, then either ``kill`` or a ``shutdown_request`` message and ``shutdown_requested``, then
polling, then ``cleanup``, which is the first to say reliably whether this is a restart.
"""

# ruff: noqa: FBT001, FBT002  (the signatures are jupyter_client's)

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyter_client.launcher import launch_kernel
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from clouditia.bridge.handle import BridgeHandle, BridgeState
from clouditia.bridge.options import parse_options
from clouditia.bridge.starting import KernelStart
from clouditia.closing import is_closing_down, is_user_request
from clouditia.embedded import resolve_target
from clouditia.errors import (
    ClouditiaError,
    KernelNotFound,
    SessionError,
    class_of_exit,
)
from clouditia.notebook_kernels import NotebookKey
from clouditia.rest import GatewayClient
from clouditia.server_limits import lift_rate_limit
from clouditia.settings import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_client.connect import KernelConnectionInfo

__all__ = ["ClouditiaProvisioner"]

_START_WAIT_S = 60.0
_RESTART_TIMEOUT_S = 60.0
_LEAVE_GRACE_S = 2.0
_EPOCH_WAIT_S = 3.0
_REST_TIMEOUT_S = 5.0


class ClouditiaProvisioner(LocalProvisioner):
    """Runs ``clouditia-kernel`` for one kernel manager."""

    _bridge: BridgeHandle | None = None
    _notebook = NotebookKey("", "", "")  # known from the first start on
    _kernel_id: str = ""  # of the remote kernel; ``kernel_id`` is jupyter_client's
    _epoch: int | None = None  # of the kernel that the front end knows
    _last_reason = ""  # why the last bridge left
    _is_released = False  # the kernel lives on without us
    _end_requested = False  # the bridge was asked to end the kernel
    _restart_requested = False  # the bridge was asked to restart the kernel
    _is_gone = False  # the gateway has the kernel no longer
    _reports_exit = False  # poll() says "gone" although the bridge waits for what comes next

    # --- start ----------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare a start or restart; jupyter_client calls it before :meth:`launch_kernel`.

        Raises:
            ConfigError, AuthenticationError: target, key or certificate settings are wrong.
            KernelNotFound: somebody ended the kernel, and this is only an automatic restart.
        """
        # jupyter_client sends interrupts in "message" mode past the provisioner. As signals they
        # come to send_signal(), which can tell a user's interrupt from that of a shutdown.
        self.kernel_spec.interrupt_mode = "signal"
        if self._ended_by_others():
            self._refuse_automatic_restart()
            self._kernel_id, self._epoch, self._is_gone = "", None, False
        if self._target_name() != EMBEDDED:  # that one is started by the bridge
            GatewayClient(resolve_target(self._target_name()))
        addresses_before = self._addresses()
        prepared = await super().pre_launch(**kwargs)
        bridge = self._bridge
        if bridge and bridge.is_running and self._addresses() != addresses_before:
            # It listens where nobody will ask; the next one takes its kernel over.
            bridge.tell("detach")
            await bridge.make_leave(_LEAVE_GRACE_S)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the bridge, or wait for the restart that the living one carries out.

        Raises:
            ClouditiaError: the bridge gave up; the class is the one of its exit code.
        """
        if self._bridge is not None and self._bridge.is_running:
            await self._finish_restart(self._bridge)
            return self.connection_info
        lift_rate_limit(ClouditiaProvisioner)
        options = ["--managed"]
        start = None
        environ = kwargs.get("env") or os.environ
        if not self._kernel_id:
            self._kernel_id = await asyncio.to_thread(self._find_again, environ)
        if not self._kernel_id and self._target_name() != EMBEDDED:
            start = self._start_kernel(cmd, environ)
            options += ["--kernel-id", start.kernel_id, "--starting"]
        elif self._kernel_id:
            options += ["--kernel-id", self._kernel_id]
            if self._restart_requested:  # of a bridge that was gone already
                await asyncio.to_thread(self._client().restart, self._kernel_id)
        self._reset()
        if self._bridge is not None:
            self._bridge.close()
        try:
            process = launch_kernel(
                [cmd[0], *options, *cmd[1:]],
                stdin=subprocess.PIPE,
                bufsize=0,  # a command leaves at once, or fails at once
                **self._scrub_kwargs(kwargs),
            )
        except BaseException:
            if start is not None:
                start.abandon()
            raise
        self.process, self.pid = process, process.pid
        bridge = self._bridge = BridgeHandle(process, self._manager.connection_file)
        if start is not None:
            start.result.add_done_callback(lambda _: bridge.tell(start.announcement()))
        # The id is there once the gateway has started or found the kernel. Not to reach that kernel
        # yet is no failure: the bridge keeps trying.
        await bridge.wait_for(lambda state: bool(state.kernel_id), _START_WAIT_S)
        if not bridge.is_running:
            if start is not None:
                start.abandon()
            self._raise_start_failure(bridge)
        self._learn(bridge.state())
        self._notebook.remember(self._kernel_id)
        return self.connection_info

    def _find_again(self, environ: Mapping[str, str]) -> str:
        """The kernel that this notebook had when it was last open; empty if that is gone."""
        kernel = parse_options(self.kernel_spec.argv[1:]).kernel
        notebook = environ.get("JPY_SESSION_NAME", "")
        self._notebook = NotebookKey(self._target_name(), kernel, notebook)
        kernel_id = self._notebook.recall()
        if kernel_id is None:
            return ""
        try:
            self._client(_REST_TIMEOUT_S).get_kernel(kernel_id)
        except KernelNotFound:
            self._notebook.forget()
            return ""
        except ClouditiaError:
            self.log.info("the gateway of kernel %s does not answer; waiting for it", kernel_id)
        return kernel_id

    def _start_kernel(self, cmd: list[str], environ: Mapping[str, str]) -> KernelStart:
        """Ask for a new kernel in a thread, as the bridge would, but some 0.1 s before it could."""
        options = replace(parse_options(cmd[1:]), kernel_id=None)
        return KernelStart(self._client(), options, environ)

    def _reset(self) -> None:
        self._is_released = self._end_requested = False
        self._restart_requested = self._reports_exit = False
        self._last_reason = ""

    def _learn(self, state: BridgeState) -> None:
        self._kernel_id = state.kernel_id or self._kernel_id
        self._epoch = state.epoch if state.epoch is not None else self._epoch
        self._last_reason = state.reason or self._last_reason

    def _raise_start_failure(self, bridge: BridgeHandle) -> None:
        state = bridge.state()
        self._is_gone = state.state == "ended"
        reason = state.reason or "its message is in the log above"
        code = bridge.process.wait()
        bridge.close()
        bridge.forget_state()
        self.process = self._bridge = None
        raise _error_class(code)(f"the remote kernel did not start: {reason}")

    def _ended_by_others(self) -> bool:
        """Whether the kernel was ended for good, by the bridge's word or the gateway's."""
        bridge = self._bridge
        if bridge is None or bridge.is_running:
            return self._is_gone
        return bridge.state().state == "ended"

    def _refuse_automatic_restart(self) -> None:
        """A kernel that somebody ended does not come back, and cost money, by itself."""
        # Only a user's restart goes through a shutdown request or a request to the server.
        if not self._restart_requested and not is_user_request():
            raise KernelNotFound(
                f"the kernel {self._kernel_id} was ended, not by this front end",
                hint="Restart it by hand to begin with a new one.",
            )

    # --- restart in place -----------------------------------------------------------------------

    async def _finish_restart(self, bridge: BridgeHandle) -> None:
        wanted = (self._epoch or 0) + 1
        try:
            if not self._restart_requested:  # it was "killed", so nobody told the kernel host
                await self._restart_remotely(bridge)
            if not await bridge.wait_for(
                lambda state: (state.epoch or 0) >= wanted, _RESTART_TIMEOUT_S
            ):
                if not bridge.is_running:
                    raise SessionError(
                        f"the kernel {self._kernel_id} was not restarted: {bridge.state().reason}",
                        hint="Restart once more to begin with a new kernel.",
                    )
                # The bridge still has the order. An error here would stay: jupyter_client would
                # answer with it for as long as the local server runs.
                self.log.warning(
                    "the restart of kernel %s was not confirmed within %g s; it is done when the "
                    "gateway is back",
                    *(self._kernel_id, _RESTART_TIMEOUT_S),
                )
        finally:
            self._reset()
            self._learn(bridge.state())

    async def _restart_remotely(self, bridge: BridgeHandle) -> None:
        if resolve_target(self._target_name()).kind == "plain":
            bridge.tell("restart")  # such a server would not tell the bridge
        else:
            await asyncio.to_thread(self._client().restart, self._kernel_id)

    # --- life -----------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the bridge lives. The network being down is not death."""
        if self._reports_exit:
            return 0
        return await super().poll()

    async def wait(self) -> int | None:
        """Wait for the bridge to leave, or to be as good as gone (restart)."""
        while await self.poll() is None:  # noqa: ASYNC110  (no event tells, on every platform)
            await asyncio.sleep(0.05)
        return 0 if self._reports_exit else await super().wait()

    async def send_signal(self, signum: int) -> None:
        """Pass an interrupt on, unless it only announces a shutdown or a restart."""
        if self._bridge is None or not self._bridge.is_running:
            return
        if signum != signal.SIGINT:
            self._bridge.process.send_signal(signum)
        elif not self._manager.shutting_down:
            self._bridge.tell("interrupt")
        elif is_closing_down(self.parent):
            self._learn(self._bridge.state())
            await self._release(self._bridge)
        else:
            # A restart must know which epoch it leaves; right after a start that takes a moment.
            await self._bridge.wait_for(lambda state: state.epoch is not None, _EPOCH_WAIT_S)
            self._learn(self._bridge.state())

    async def _release(self, bridge: BridgeHandle) -> None:
        """Let go of the kernel before the ``shutdown_request`` can reach the bridge."""
        self._is_released = True
        bridge.tell("detach")
        if not await bridge.wait_exit(_LEAVE_GRACE_S):
            bridge.process.kill()
        self.log.info("kernel %s lives on at %s", self._kernel_id, self._target_name())

    async def shutdown_requested(self, restart: bool = False) -> None:
        """A ``shutdown_request`` is on its way to the bridge."""
        if self._is_released:
            return
        if restart:
            self._restart_requested = self._reports_exit = True
        elif self._bridge is not None:
            self._end_requested = True
            self._bridge.tell("end")  # says it even if the message meets a busy socket

    async def terminate(self, restart: bool = False) -> None:
        """The shutdown takes long; the bridge is told to hurry, not the whole process group."""
        if self._bridge is not None and self._bridge.is_running:
            self._bridge.process.terminate()

    async def kill(self, restart: bool = False) -> None:
        """End the bridge at once, or wait for :meth:`cleanup` to say whether this is a restart.

        jupyter_client passes ``restart=False`` even where a restart follows.
        """
        if self._bridge is None or not self._bridge.is_running:
            return
        if self._end_requested or self._is_released:
            self._bridge.process.kill()
        else:
            self._reports_exit = True

    async def cleanup(self, restart: bool = False) -> None:
        """Keep everything for a restart; else see that the bridge and, by policy, the kernel ends.

        May be called again; then it does nothing.
        """
        await super().cleanup(restart=restart)
        if restart or self._bridge is None:
            return
        bridge, self._bridge = self._bridge, None
        if not self._is_released:
            self._notebook.forget()
        if not self._is_released and not self._end_requested:
            bridge.tell("end")
        await bridge.make_leave(_LEAVE_GRACE_S)
        state = bridge.state()
        self._learn(state)
        self.process = None
        bridge.forget_state()
        if not self._is_released and state.state != "ended":
            await self._end_over_rest()

    async def _end_over_rest(self) -> None:
        """The bridge left without ending its kernel: it was killed, or followed ``on_close``."""
        if not self._kernel_id:
            return
        try:
            await asyncio.to_thread(self._client(_REST_TIMEOUT_S).shutdown, self._kernel_id)
        except KernelNotFound:
            return
        except ClouditiaError as exc:
            self.log.warning(
                "kernel %s may still run (%s); end it with: clouditia kernels stop %s --target %s",
                *(self._kernel_id, exc.message, self._kernel_id, self._target_name()),
            )

    # --- facts ----------------------------------------------------------------------------------

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Ending a kernel takes a round trip to the gateway and the kernel's own goodbye."""
        return max(recommended, 15.0)

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        """A start that hangs on a slow network is still a start."""
        return max(recommended, 30.0)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What is needed to find this kernel again."""
        info: dict[str, Any] = await super().get_provisioner_info()
        if self._bridge is not None:
            self._learn(self._bridge.state())
        info["clouditia"] = {
            "target": self._target_name(),
            "kernel_id": self._kernel_id,
            "epoch": self._epoch,
        }
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Take over a kernel: the next start attaches to it."""
        await super().load_provisioner_info(provisioner_info)
        ours = provisioner_info.get("clouditia") or {}
        self._kernel_id, self._epoch = ours.get("kernel_id", ""), ours.get("epoch")

    @property
    def last_reason(self) -> str:
        """Why the last bridge left, in its own words; empty while none has left."""
        if self._bridge is not None and not self._bridge.is_running:
            self._learn(self._bridge.state())
        return self._last_reason

    def _client(self, timeout: float = 30.0) -> GatewayClient:
        return GatewayClient(resolve_target(self._target_name()), timeout)

    def _addresses(self) -> object:
        """Where the front end expects the bridge; ipc sockets are new ones after each restart."""
        if self._manager.transport == "ipc":
            return object()
        return {name: port for name, port in self.connection_info.items() if "_port" in name}

    @property
    def _manager(self) -> Any:
        """The kernel manager; its attributes are traits, which no type checker sees."""
        return self.parent

    def _target_name(self) -> str:
        argv = self.kernel_spec.argv
        return str(argv[argv.index("--target") + 1])


def _error_class(exit_code: int) -> type[ClouditiaError]:
    # 1 is the bridge's own code for a kernel that died; a signal has no class.
    found = class_of_exit(exit_code)
    return SessionError if found is ClouditiaError else found
