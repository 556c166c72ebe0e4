"""What ``clouditia doctor`` says about kernels that do not trust each other."""

from __future__ import annotations

import os
import pwd
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clouditia_gateway.sandbox.probes import Probed

#: The seam to the command, which does not know this package: subject, status, text, next step.
Finding = tuple[str, str, str, str]

_IN_USE = (
    "level 0: kernels run as {user}, without a sandbox. What holds: users reach each other's "
    "kernels through no interface of the gateway. What does not: whoever may run code in a kernel "
    "can read and change what this user can, the gateway's database and other kernels among it, "
    "and can use up memory and processes"
)
_NEXT_STEP = "one gateway, under a user of its own, for each group that trusts itself"


class _Layer(NamedTuple):
    name: str
    probe: Callable[[], Probed]
    keeps: str
    how_to_get: str


def findings() -> Iterator[Finding]:
    """The sandbox in use, which is none, and the layers that this machine could give."""
    if sys.platform != "linux":
        return
    layers = _layers()
    probed = [(layer, layer.probe()) for layer in layers]
    yield ("sandbox", "warn", _IN_USE.format(user=_user()), _NEXT_STEP)
    for layer, result in probed:
        is_there = "available" if result.holds else "not available"
        does = "could keep" if result.holds else "would keep"
        text = f"{is_there} and not used yet ({result.seen}); it {does} {layer.keeps}"
        yield f"sandbox, {layer.name}", "ok", text, "" if result.holds else layer.how_to_get


def _layers() -> tuple[_Layer, ...]:
    from clouditia_gateway.sandbox import probes

    return (
        _Layer("users", probes.user_ids, "files and processes of users apart", ""),
        _Layer(
            "bubblewrap",
            probes.bubblewrap,
            "processes, shared memory and parts of the file system apart",
            "install bubblewrap; user namespaces must be allowed",
        ),
        _Layer("landlock", probes.landlock, "kernels away from files", ""),
        _Layer("cgroup", probes.cgroup, "memory and processors apart", ""),
        _Layer("rlimits", probes.rlimits, "one process from taking all memory", ""),
    )


def _user() -> str:
    try:
        return f"the gateway's user, which is {pwd.getpwuid(os.geteuid()).pw_name} here"
    except KeyError:
        return f"the gateway's user, which has the id {os.geteuid()} here"
