"""Every error Clouditia raises, with its wire code and its exit code.

One tree, one table. An error has a stable ``code`` (also used on the wire), a human message, an
optional ``hint`` (the next step) and ``retryable``. The command line exits with ``exit_code``.

=====================  =========  =======================================================
class                  exit code  raised when
=====================  =========  =======================================================
ClouditiaError         1          base of all; anything not named below
ConfigError            2          an argument, option, file or target is wrong
AuthenticationError    3          the key is missing, malformed, unknown, expired, revoked
PermissionDeniedError  4          the key is good but may not do this
SessionError           5          a kernel or session is missing, dead or not running
ConnectionLostError    6          the gateway cannot be reached, or messages are gone
TimeoutError           7          something took longer than its stated limit
ExecutionError         8          user code raised
CommandBlockedError    9          a gateway policy refused the command
TransferError          10         a variable or file could not be moved
JobError               11         a background job cannot answer
ProtocolError          12         a peer broke the protocol, or speaks another version
LeaseError             13         a GPU lease cannot be given or kept
QuotaError             14         a quota or budget is used up
=====================  =========  =======================================================
"""

from __future__ import annotations

import builtins
from typing import Any, ClassVar, Dict, List, Optional, Type

__all__ = [
    "AuthenticationError",
    "BudgetError",
    "ClouditiaError",
    "CommandBlockedError",
    "ConfigError",
    "ConnectionLostError",
    "DigestMismatch",
    "ExecutionError",
    "ExecutionTimeout",
    "GatewayUnreachable",
    "JobError",
    "JobNotCompleted",
    "KernelDied",
    "KernelNotFound",
    "LaunchTimeout",
    "LeaseError",
    "LocalProtocolError",
    "MessagesLost",
    "NoDeviceAvailable",
    "PackageTooLarge",
    "PathNotAllowed",
    "PermissionDeniedError",
    "ProtocolError",
    "QuotaError",
    "RemoteProtocolError",
    "SessionError",
    "TimeoutError",
    "TransferError",
    "TransferTimeout",
    "UnknownOutcomeError",
    "VersionMismatch",
    "class_of_exit",
    "error_from_wire",
]


class ClouditiaError(Exception):
    """Base of every error that Clouditia raises.

    Args:
        message: What was tried, what was seen, the limit with numbers.
        hint: What to do next; one sentence.
        retryable: Whether the same call may succeed later unchanged.
        request_id: Id under which the gateway logged the request, if any.
        details: Further data of this error; JSON types only.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        retryable: bool = False,
        request_id: Optional[str] = None,
        details: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.request_id = request_id
        self.details: Dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        """The message, followed by the hint where there is one."""
        if not self.hint:
            return self.message
        return self.message + (" " if self.message.endswith((".", "!", "?")) else ". ") + self.hint

    def __reduce__(self) -> Any:
        """Pickle by class and state, so that errors cross processes whole."""
        return (_rebuild, (type(self), dict(self.__dict__), self.args))

    def to_wire(self) -> Dict[str, Any]:
        """The JSON form used by REST answers and link frames."""
        return {
            "code": self.code,
            "reason": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "request_id": self.request_id,
            "details": self.details,
            "retry_after": self.details.get("retry_after"),
        }


def _rebuild(cls: Type[ClouditiaError], state: Dict[str, Any], args: Any) -> ClouditiaError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ClouditiaError, ValueError):
    """An argument, option, file, target or kernelspec is wrong."""

    code = "config"
    exit_code = 2


class AuthenticationError(ClouditiaError):
    """The key is missing, malformed, unknown, expired or revoked (HTTP 401)."""

    code = "authentication"
    exit_code = 3


class PermissionDeniedError(ClouditiaError, PermissionError):
    """The key is good but may not do this (HTTP 403)."""

    code = "permission_denied"
    exit_code = 4


class SessionError(ClouditiaError):
    """A kernel or session is missing, dead or not running."""

    code = "session"
    exit_code = 5


class KernelNotFound(SessionError):
    """No kernel of this id is visible to this key (HTTP 404)."""

    code = "kernel_not_found"


class KernelDied(SessionError):
    """The kernel process ended; carries its exit code and last stderr lines."""

    code = "kernel_died"

    def __init__(
        self,
        message: str = "",
        *,
        exit_code: Optional[int] = None,
        last_log: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(message, **kwargs)
        self.details.setdefault("exit_code", exit_code)
        self.details.setdefault("last_log", last_log)

    @property
    def last_log(self) -> str:
        """The last lines that the kernel wrote to stderr."""
        return str(self.details.get("last_log", ""))


class NoDeviceAvailable(SessionError):
    """No GPU matching the request is free."""

    code = "gpu_exhausted"


class ConnectionLostError(ClouditiaError, ConnectionError):
    """The connection to the gateway is gone, or a message went missing on it."""

    code = "connection_lost"
    exit_code = 6


class GatewayUnreachable(ConnectionLostError):
    """No connection to the gateway could be made; says nothing about the kernels behind it."""

    code = "gateway_unreachable"


class MessagesLost(ConnectionLostError):
    """Messages ``first`` to ``last`` (inclusive) can no longer be had."""

    code = "messages_lost"

    def __init__(self, message: str = "", *, first: int = 0, last: int = 0, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.details.setdefault("first", first)
        self.details.setdefault("last", last)


class UnknownOutcomeError(ConnectionLostError):
    """A request was sent but its outcome is unknown; retry with the same idempotency key."""

    code = "unknown_outcome"


class TimeoutError(ClouditiaError, builtins.TimeoutError):
    """Something took longer than its limit; also a builtin ``TimeoutError``."""

    code = "timeout"
    exit_code = 7


class LaunchTimeout(TimeoutError):
    """A kernel did not become ready in time."""

    code = "launch_timeout"


class ExecutionTimeout(TimeoutError):
    """A cell ran longer than the caller allowed."""

    code = "execution_timeout"


class TransferTimeout(TimeoutError):
    """A transfer made no progress in time."""

    code = "transfer_timeout"


class ExecutionError(ClouditiaError):
    """User code raised; carries name, value and traceback of the remote exception."""

    code = "execution"
    exit_code = 8

    def __init__(
        self,
        message: str = "",
        *,
        ename: str = "",
        evalue: str = "",
        traceback: Optional[List[str]] = None,
        cell: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, **kwargs)
        self.details.setdefault("ename", ename)
        self.details.setdefault("evalue", evalue)
        self.details.setdefault("traceback", list(traceback or []))
        self.details.setdefault("cell", cell)


class CommandBlockedError(ClouditiaError):
    """A policy of the gateway refused the command; a guard rail, not a security boundary."""

    code = "command_blocked"
    exit_code = 9


class TransferError(ClouditiaError):
    """A variable or file could not be moved; nothing stands under its final name."""

    code = "transfer"
    exit_code = 10


class DigestMismatch(TransferError):
    """The bytes that arrived are not the bytes that were sent."""

    code = "digest_mismatch"


class PathNotAllowed(TransferError, ValueError):
    """A path leaves the tree that it must stay in."""

    code = "path_not_allowed"


class PackageTooLarge(TransferError, ValueError):
    """Something is larger than its stated limit."""

    code = "too_large"


class JobError(ClouditiaError):
    """A background job cannot answer."""

    code = "job"
    exit_code = 11


class JobNotCompleted(JobError, RuntimeError):
    """The job has no result yet."""

    code = "job_not_completed"


class ProtocolError(ClouditiaError):
    """One side broke the link protocol."""

    code = "protocol"
    exit_code = 12


class LocalProtocolError(ProtocolError):
    """Our own code misused a state machine; a bug of ours."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow."""

    code = "remote_protocol"


class VersionMismatch(ProtocolError):
    """The two sides share no protocol version."""

    code = "version_mismatch"


class LeaseError(ClouditiaError):
    """A GPU lease cannot be given, renewed or kept."""

    code = "lease"
    exit_code = 13


class QuotaError(ClouditiaError):
    """A quota is used up."""

    code = "quota_exceeded"
    exit_code = 14


class BudgetError(QuotaError):
    """A budget is used up."""

    code = "budget_exceeded"


def _all_classes(base: Type[ClouditiaError]) -> List[Type[ClouditiaError]]:
    found = [base]
    for child in base.__subclasses__():
        found.extend(_all_classes(child))
    return found


def class_of_exit(exit_code: int) -> Type[ClouditiaError]:
    """The class that owns an exit code, whatever subclasses other modules have added."""
    for cls in _all_classes(ClouditiaError):
        if vars(cls).get("exit_code") == exit_code:
            return cls
    return ClouditiaError


def error_from_wire(wire: Dict[str, Any]) -> ClouditiaError:
    """Rebuild the error that :meth:`ClouditiaError.to_wire` described.

    Unknown codes become :class:`ClouditiaError`; missing fields take their defaults.
    """
    # A class that only inherits its code is a detail of the module that defines it.
    by_code = {cls.code: cls for cls in _all_classes(ClouditiaError) if "code" in vars(cls)}
    cls = by_code.get(str(wire.get("code") or wire.get("reason") or ""), ClouditiaError)
    details = wire.get("details")
    return cls(
        str(wire.get("message") or ""),
        hint=str(wire.get("hint") or ""),
        retryable=bool(wire.get("retryable")),
        request_id=wire.get("request_id"),
        details=details if isinstance(details, dict) else None,
    )
