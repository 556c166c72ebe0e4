"""A kernel that the provisioner starts, and the bridge that hears how that went."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouditia.bridge.options import BridgeOptions, parse_options
from clouditia.bridge.starting import AnnouncedStart, KernelStart
from clouditia.errors import QuotaError

WAIT_S = 5.0


class Gateway:
    """Answers starts with an id of its own, or with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: dict[str, object] = {}

    def start_kernel(self, name: str, **asked: object) -> dict[str, str]:
        self.asked = {"name": name, **asked}
        if self._error is not None:
            raise self._error
        return {"id": "theirs"}


def started_by(gateway: Gateway) -> KernelStart:
    options = BridgeOptions("t", "python3", None, is_managed=True, connection_file=Path("c.json"))
    environ = {"KERNEL_A": "1", "SECRET": "s", "JPY_SESSION_NAME": "a/b.ipynb"}
    start = KernelStart(gateway, options, environ)  # type: ignore[arg-type]
    start.result.exception(WAIT_S)
    return start


def test_the_parents_environment_says_what_the_kernel_gets() -> None:
    gateway = Gateway()
    start = started_by(gateway)
    assert start.kernel_id == "theirs"
    assert gateway.asked["env"] == {"KERNEL_A": "1"}
    assert gateway.asked["path"] == "a/b.ipynb"


def test_the_id_that_the_gateway_gave_replaces_the_one_that_was_asked_for() -> None:
    announced = AnnouncedStart("ours")
    assert announced.hear(started_by(Gateway()).announcement())
    assert announced.result.result(0) is None
    assert announced.kernel_id == "theirs"


def test_an_error_of_the_start_is_the_same_error_in_the_bridge() -> None:
    refused = QuotaError("you have 2 kernels,\nat most 2", hint="Shut one down.")
    line = started_by(Gateway(refused)).announcement()
    assert "\n" not in line
    announced = AnnouncedStart("ours")
    assert announced.hear(line)
    with pytest.raises(QuotaError, match="at most 2") as caught:
        announced.result.result(0)
    assert caught.value.hint == refused.hint


def test_other_lines_and_a_second_announcement_are_not_for_the_start() -> None:
    announced = AnnouncedStart("ours")
    assert not announced.hear("interrupt")
    assert announced.hear("started ours")
    assert not announced.hear("started others")
    assert announced.kernel_id == "ours"


def test_a_start_can_be_announced_only_where_there_is_a_line_to_hear_it_on() -> None:
    argv = ["--target", "t", "--kernel-id", "k", "--starting", "-f", "c.json"]
    assert not parse_options(argv).is_new
    assert parse_options([*argv, "--managed"]).is_new
