"""How a kernel process ended, in words that say what that means."""

from __future__ import annotations

import signal
from typing import NamedTuple

from clouditia_gateway.host.memory_watch import OutOfMemory

#: What ends a kernel by itself: ``cause`` of docs/protocol.md.
EXIT, SIGNAL, OOM, LAUNCH, HOST = "exit", "signal", "oom", "launch", "host"

_MEANING = {
    "SIGSEGV": "it touched memory that is not its own: a fault in native code, such as a library",
    "SIGBUS": "it touched memory that is not there: a truncated file, or a full /dev/shm",
    "SIGABRT": "it gave up by itself: an assertion or a check in native code failed",
    "SIGILL": "an instruction that this processor does not know: a library built for another one",
    "SIGFPE": "a fatal arithmetic error in native code",
    "SIGKILL": "by hand, by a batch system or by a supervisor; not for lack of memory",
    "SIGTERM": "somebody asked it to end",
    "SIGXCPU": "its limit of processor time was reached",
    "SIGXFSZ": "its limit of file size was reached",
}
_MAYBE_MEMORY = "by hand, by a batch system, or for lack of memory: this system does not tell"


class ExitFacts(NamedTuple):
    """How a kernel process ended; ``kernel_exited`` of docs/protocol.md."""

    exit_code: int | None
    signal: str | None
    reason: str
    cause: str

    @classmethod
    def from_exit_code(
        cls, code: int, memory: OutOfMemory | None = None, *, is_counted: bool = True
    ) -> ExitFacts:
        """Facts of an exit code as :mod:`subprocess` counts them: negative for signals.

        Args:
            code: The exit code.
            memory: That the system has ended a process for memory, if it has.
            is_counted: Whether it would have said so.
        """
        if code >= 0:
            return cls(code, None, f"the kernel exited with code {code}", EXIT)
        name = signal_name(-code)
        if name == "SIGKILL" and memory is not None:
            return cls(None, name, memory.sentence, OOM)
        meaning = _MEANING.get(name, "")
        if name == "SIGKILL" and not is_counted:
            meaning = _MAYBE_MEMORY
        why = f" ({meaning})" if meaning else ""
        return cls(None, name, f"the kernel was killed by {name}{why}", SIGNAL)

    @classmethod
    def not_started(cls, reason: str) -> ExitFacts:
        """There was no process at all."""
        return cls(None, None, reason, LAUNCH)


def signal_name(number: int) -> str:
    """Such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
