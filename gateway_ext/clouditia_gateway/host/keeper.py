"""The kernel's keeper: a small process between host and kernel that leaves no orphan.

The kernel may start processes in sessions of their own; once their parents are gone, nothing but a
*subreaper* above them can still find them. The host cannot be the only one, because it may be
killed itself. So the host forks a keeper before it imports anything heavy; the keeper starts the
kernel, passes signals on, reports its end, and kills everything below itself when the kernel ends,
when it is told to, and when the host is gone (its command pipe is at its end). Should the keeper be
killed, the system kills the kernel (parent-death signal) and the host, a subreaper too, the rest.

Commands are lines: ``spawn``, ``signal N``, ``kill``. Events are JSON lines: :class:`KeeperEvent`.
"""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from clouditia_gateway.host import proc

#: How long the keeper goes on killing processes that do not die (uninterruptible sleep).
KILL_TIMEOUT_S = 5.0
#: When memory runs out, the system should end the kernel rather than what keeps its output. In
#: thousandths of the machine's memory, added to what the kernel itself takes.
KERNEL_OOM_SCORE = 100


class KernelCommand(NamedTuple):
    """How the kernel is started.

    Attributes:
        argv: Final command line.
        env: Complete environment, but for ``JPY_PARENT_PID``.
        cwd: Working directory.
        directory: The kernel's own directory, shown in the keeper's command line.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    directory: str


class KeeperHandles(NamedTuple):
    """The host's side of its keeper: pipe ends, and the pid to wait for."""

    pid: int
    commands: int
    events: int
    output: int


def fork_keeper(command: KernelCommand, *, spawn_now: bool) -> KeeperHandles:
    """Fork a keeper; with ``spawn_now`` it starts the kernel without waiting for a command."""
    commands_read, commands_write = os.pipe()
    events_read, events_write = os.pipe()
    output_read, output_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_child(command, (commands_read, events_write, output_write), spawn_now=spawn_now)
    for descriptor in (commands_read, events_write, output_write):
        os.close(descriptor)
    for descriptor in (events_read, output_read):
        os.set_blocking(descriptor, False)
    return KeeperHandles(pid, commands_write, events_read, output_read)


def _run_child(command: KernelCommand, pipes: tuple[int, int, int], *, spawn_now: bool) -> NoReturn:
    """The forked child's whole life; it never returns into the host's code."""
    try:
        _close_all_but(pipes)
        Keeper(command, *pipes).run(spawn_now=spawn_now)
    except BaseException as exc:  # noqa: BLE001  # a fork must not unwind into the host's stack
        os.write(2, f"kernel keeper: {type(exc).__name__}: {exc}\n".encode())
        os._exit(1)
    os._exit(0)


def _close_all_but(pipes: tuple[int, ...]) -> None:
    """Hold nothing of the host's: its lock, log and sockets must end with it."""
    start = 3
    for descriptor in sorted(pipes):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


class Keeper:
    """The keeper's loop; single-threaded, blocking, nothing but the standard library."""

    def __init__(self, command: KernelCommand, commands: int, events: int, output: int) -> None:
        self._command = command
        self._commands = commands
        self._events = events
        self._output = output
        self._kernel_pid = 0
        self._buffer = b""
        self._is_host_alive = True

    def run(self, *, spawn_now: bool) -> None:
        """Serve until the host closes the command pipe or is gone."""
        os.setsid()
        proc.become_subreaper()
        proc.set_command_line(f"clouditia-kernelkeeper {self._command.directory}")
        wake_read = self._wake_on_child_signals()
        if spawn_now:
            self._spawn()
        poll = select.poll()
        poll.register(self._commands, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        while self._is_host_alive:
            for descriptor, _ in poll.poll():
                if descriptor == wake_read:
                    os.read(wake_read, 512)
                    self._reap()
                else:
                    self._read_commands()
        self._kill_everything()

    def _wake_on_child_signals(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return wake_read

    def _read_commands(self) -> None:
        data = os.read(self._commands, 4096)
        if not data:
            self._is_host_alive = False
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            word, _, argument = line.decode().partition(" ")
            if word == "spawn":
                self._spawn()
            elif word == "kill":
                self._kill_everything()
            elif word == "signal" and self._kernel_pid:
                proc.kill_group(self._kernel_pid, int(argument))

    # --- the kernel --------------------------------------------------------------------------

    def _spawn(self) -> None:
        failure_read, failure_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _exec_kernel(self._command, self._output, failure_write)
        os.close(failure_write)
        failure = _read_all(failure_read)
        if failure:
            os.waitpid(pid, 0)
            self._report("failed", reason=failure.decode("utf-8", "replace"))
            return
        self._kernel_pid = pid
        self._report("spawned", pid=pid, start_time=proc.start_time(pid))

    def _reap(self) -> None:
        """Collect every child that ended, adopted ones too; the kernel's end is an event."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._kernel_pid:
                self._kernel_pid = 0
                code = os.waitstatus_to_exitcode(status)
                self._report("exited", pid=pid, exit_code=code)
                self._kill_everything()

    def _kill_everything(self) -> None:
        stuck = proc.kill_descendants(KILL_TIMEOUT_S, self._reap)
        if stuck:
            self._report("stuck", pids=stuck)

    def _report(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts}).encode() + b"\n"
        with suppress(BrokenPipeError):  # the host is gone; the command pipe says so as well
            os.write(self._events, line)


def _read_all(descriptor: int) -> bytes:
    data = b""
    while chunk := os.read(descriptor, 4096):
        data += chunk
    os.close(descriptor)
    return data


def _exec_kernel(command: KernelCommand, output: int, failure: int) -> NoReturn:
    """In the forked child: become the kernel, or write why not and leave."""
    doing = "be set up"
    try:
        parent = os.getppid()
        os.setsid()
        proc.die_with_parent()
        proc.offer_memory(KERNEL_OOM_SCORE)
        if os.getppid() != parent:
            os._exit(1)  # the keeper ended before the parent-death signal was armed
        _restore_signals()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        doing = f"enter its working directory {command.cwd!r}"
        os.chdir(command.cwd)
        doing = f"execute {command.argv[0]!r}"
        env = {**command.env, "JPY_PARENT_PID": str(parent)}
        os.execvpe(command.argv[0], command.argv, env)  # noqa: S606  # no shell, on purpose
    except BaseException as exc:  # noqa: BLE001  # the last stop before the process ends
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        os.write(failure, f"the kernel could not {doing}: {why}".encode())
    os._exit(127)


def _restore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
