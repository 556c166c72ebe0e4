"""The error tree: codes, exit codes, the wire form, and that errors cross processes whole."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

from clouditia import errors
from clouditia.errors import ClouditiaError, error_from_wire
from clouditia.transport.link_runner import TransportClosed
from clouditia.transport.websocket import HandshakeRefused

#: The whole public tree: name, code, exit code.
TABLE = {
    "ClouditiaError": ("error", 1),
    "ConfigError": ("config", 2),
    "AuthenticationError": ("authentication", 3),
    "PermissionDeniedError": ("permission_denied", 4),
    "SessionError": ("session", 5),
    "KernelNotFound": ("kernel_not_found", 5),
    "KernelDied": ("kernel_died", 5),
    "NoDeviceAvailable": ("gpu_exhausted", 5),
    "ConnectionLostError": ("connection_lost", 6),
    "GatewayUnreachable": ("gateway_unreachable", 6),
    "MessagesLost": ("messages_lost", 6),
    "UnknownOutcomeError": ("unknown_outcome", 6),
    "TimeoutError": ("timeout", 7),
    "LaunchTimeout": ("launch_timeout", 7),
    "ExecutionTimeout": ("execution_timeout", 7),
    "TransferTimeout": ("transfer_timeout", 7),
    "ExecutionError": ("execution", 8),
    "CommandBlockedError": ("command_blocked", 9),
    "TransferError": ("transfer", 10),
    "DigestMismatch": ("digest_mismatch", 10),
    "PathNotAllowed": ("path_not_allowed", 10),
    "PackageTooLarge": ("too_large", 10),
    "JobError": ("job", 11),
    "JobNotCompleted": ("job_not_completed", 11),
    "ProtocolError": ("protocol", 12),
    "LocalProtocolError": ("local_protocol", 12),
    "RemoteProtocolError": ("remote_protocol", 12),
    "VersionMismatch": ("version_mismatch", 12),
    "LeaseError": ("lease", 13),
    "QuotaError": ("quota_exceeded", 14),
    "BudgetError": ("budget_exceeded", 14),
}
#: What ``except`` of plain Python catches them with.
BUILTIN_PARENTS = {
    "ConfigError": ValueError,
    "PermissionDeniedError": PermissionError,
    "ConnectionLostError": ConnectionError,
    "GatewayUnreachable": ConnectionError,
    "MessagesLost": ConnectionError,
    "UnknownOutcomeError": ConnectionError,
    "TimeoutError": builtins.TimeoutError,
    "LaunchTimeout": builtins.TimeoutError,
    "ExecutionTimeout": builtins.TimeoutError,
    "TransferTimeout": builtins.TimeoutError,
    "PathNotAllowed": ValueError,
    "PackageTooLarge": ValueError,
    "JobNotCompleted": RuntimeError,
}

names = pytest.mark.parametrize("name", sorted(TABLE))


def class_of(name: str) -> type[ClouditiaError]:
    found: type[ClouditiaError] = getattr(errors, name)
    return found


def full(cls: type[ClouditiaError]) -> ClouditiaError:
    """An error with every field set."""
    return cls(
        "3 of 4 parts came.", hint="Try again.", retryable=True, request_id="r1", details={"n": 4}
    )


def across_processes(error: ClouditiaError) -> ClouditiaError:
    came: ClouditiaError = pickle.loads(pickle.dumps(error))  # noqa: TID251  (its own bytes)
    return came


def test_the_table_is_the_public_tree() -> None:
    assert set(errors.__all__) == {*TABLE, "class_of_exit", "error_from_wire"}


@names
def test_class_code_and_exit_code_belong_together(name: str) -> None:
    cls = class_of(name)
    assert (cls.code, cls.exit_code) == TABLE[name]
    assert "code" in vars(cls)


@names
def test_a_code_on_the_wire_is_this_class_on_the_other_side(name: str) -> None:
    sent = full(class_of(name))
    wire = sent.to_wire()
    assert wire["code"] == wire["reason"] == TABLE[name][0]
    came = error_from_wire(wire)
    assert type(came) is class_of(name)
    assert came.to_wire() == wire
    assert str(came) == "3 of 4 parts came. Try again."


@names
def test_an_error_survives_pickling_with_all_its_fields(name: str) -> None:
    sent = full(class_of(name))
    came = across_processes(sent)
    assert type(came) is type(sent)
    assert vars(came) == vars(sent)
    assert came.args == sent.args
    assert str(came) == str(sent)


@names
def test_plain_python_catches_what_it_would_catch_by_itself(name: str) -> None:
    parents = {
        parent
        for parent in class_of(name).__mro__
        if parent.__module__ == "builtins" and parent not in (object, BaseException, Exception)
    }
    wanted = BUILTIN_PARENTS.get(name)
    assert (wanted in parents) if wanted else not parents


def test_the_docstring_names_the_exit_codes() -> None:
    rows = re.findall(r"^(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE)
    documented = {name: int(number) for name, number in rows}
    assert documented == {
        name: exit_code
        for name, (_, exit_code) in TABLE.items()
        if name == "ClouditiaError" or class_of(name).__bases__[0] is ClouditiaError
    }


def test_the_special_fields_cross_the_wire_as_details() -> None:
    died = errors.KernelDied("gone", exit_code=-9, last_log="killed")
    came = error_from_wire(died.to_wire())
    assert isinstance(came, errors.KernelDied)
    assert came.details == {"exit_code": -9, "last_log": "killed"}
    assert came.last_log == "killed"
    assert came.exit_code == 5
    lost = error_from_wire(errors.MessagesLost("gone", first=3, last=7).to_wire())
    assert lost.details == {"first": 3, "last": 7}
    raised = errors.ExecutionError("no", ename="E", evalue="v", traceback=["t"], cell=2)
    assert error_from_wire(raised.to_wire()).details == raised.details


@pytest.mark.parametrize("wire", [{}, {"code": "of tomorrow"}, {"code": None, "details": [1]}])
def test_an_unknown_code_is_the_base_class(wire: dict[str, object]) -> None:
    came = error_from_wire({**wire, "message": "new"})
    assert type(came) is ClouditiaError
    assert (str(came), came.exit_code, came.details) == ("new", 1, {})


def test_a_reason_stands_in_for_a_missing_code() -> None:
    assert type(error_from_wire({"reason": "config"})) is errors.ConfigError


def test_retry_after_is_told_beside_the_details() -> None:
    assert errors.QuotaError("full", details={"retry_after": 3}).to_wire()["retry_after"] == 3


def test_classes_that_inherit_their_code_do_not_take_its_place_on_the_wire() -> None:
    for error in (TransportClosed("cut", close_code=1006), HandshakeRefused("busy", status=503)):
        came = error_from_wire(error.to_wire())
        assert type(came) is type(error).__bases__[0]
        assert came.retryable
        assert type(across_processes(error)) is type(error)


def test_an_exit_code_belongs_to_its_class_whatever_other_modules_add() -> None:
    class Detail(errors.SessionError):
        """A subclass of some other module."""

    class Stranger(errors.ClouditiaError):
        """Another one, with the base's exit code."""

    assert errors.class_of_exit(Detail.exit_code) is errors.SessionError
    assert errors.class_of_exit(Stranger.exit_code) is errors.ClouditiaError
    assert errors.class_of_exit(2) is errors.ConfigError
    assert errors.class_of_exit(99) is errors.ClouditiaError
