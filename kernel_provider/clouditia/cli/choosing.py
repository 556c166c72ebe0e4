"""Which gateway and which kernel a command means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from clouditia.cli.output import say
from clouditia.embedded import running_gateway
from clouditia.errors import ClouditiaError, ConfigError, KernelNotFound
from clouditia.rest import GatewayClient
from clouditia.settings import EMBEDDED, ENVIRONMENT, Target, list_targets, load_target

__all__ = ["FoundKernel", "find_kernel", "known_targets", "list_kernels", "target_to_run_on"]

_TIMEOUT_S = 10.0
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class FoundKernel:
    """A kernel and the gateway that holds it."""

    target: Target
    model: dict[str, Any]

    @property
    def kernel_id(self) -> str:
        """Its id on the gateway."""
        return str(self.model["id"])

    def client(self) -> GatewayClient:
        """A client of that gateway."""
        return GatewayClient(self.target)


def known_targets(name: str | None = None) -> list[Target]:
    """The target ``name``, or all: saved ones, ``env``, and the embedded one if it runs.

    Raises:
        ConfigError: there is no such target, or none at all.
    """
    if name is not None and name.lower() == EMBEDDED:
        running = running_gateway()
        if running is None:
            raise ConfigError("the embedded gateway does not run, so it holds no kernels")
        return [running]
    if name is not None:
        return [load_target(name)]
    targets = list_targets()
    if os.environ.get("CLOUDITIA_GATEWAY"):
        targets.append(load_target(ENVIRONMENT))
    running = running_gateway()
    if running is not None:
        targets.append(running)
    if not targets:
        raise ConfigError(
            "no gateway is known", hint="Add one with: clouditia login URL --name NAME"
        )
    return targets


def target_to_run_on(name: str | None) -> str:
    """Name of the target that shall run something new: the given, the only, or the embedded one.

    Raises:
        ConfigError: several are known.
    """
    if name is not None:
        return name
    if os.environ.get("CLOUDITIA_GATEWAY"):
        return ENVIRONMENT
    names = [target.name for target in list_targets()]
    if len(names) > 1:
        raise ConfigError(
            f"several targets are known: {', '.join(names)}", hint="Choose with --target NAME."
        )
    return names[0] if names else EMBEDDED


def list_kernels(target_name: str | None) -> list[FoundKernel]:
    """Kernels of one target, or of all that answer; silent ones are named on standard error.

    Raises:
        ClouditiaError: what went wrong, where no target answers.
    """
    targets = known_targets(target_name)
    found: list[FoundKernel] = []
    failures: list[ClouditiaError] = []
    for target in targets:
        try:
            models = GatewayClient(target, _TIMEOUT_S).list_kernels()
        except ClouditiaError as exc:
            failures.append(exc)
            continue
        found += [FoundKernel(target, model) for model in models]
    if len(failures) == len(targets):
        raise failures[0]
    for failure in failures:
        say(f"left out: {failure.message}")
    return found


def _look_up(target: Target, kernel_id: str) -> FoundKernel | None:
    """The kernel by its whole id; some stock servers tell that, but list nothing.

    Raises:
        KernelNotFound: it was there, and the gateway knows why it is no more.
    """
    try:
        return FoundKernel(target, GatewayClient(target, _TIMEOUT_S).get_kernel(kernel_id))
    except KernelNotFound as exc:
        if exc.details.get("ended_at"):
            raise
        return None
    except ClouditiaError:
        return None  # the listing that follows says what is wrong


def find_kernel(wanted: str, target_name: str | None) -> FoundKernel:
    """The kernel whose id begins with ``wanted``, which may also be its URL.

    Raises:
        KernelNotFound: there is none.
        ConfigError: there are several.
    """
    base_url, _, rest = wanted.partition("/api/kernels/")
    kernel_id = unquote(rest.split("/")[0].split("?")[0]) if rest else wanted
    if _WHOLE_ID.fullmatch(kernel_id):
        known = known_targets(target_name)
        targets = [target for target in known if not rest or target.url == base_url]
        found = next(filter(None, (_look_up(target, kernel_id) for target in targets)), None)
        if found is not None:
            return found
    kernels = list_kernels(target_name)
    if rest:
        kernels = [kernel for kernel in kernels if kernel.target.url == base_url]
    matching = [kernel for kernel in kernels if kernel.kernel_id.startswith(kernel_id)]
    exact = [kernel for kernel in matching if kernel.kernel_id == kernel_id]
    if len(exact or matching) > 1:
        ids = ", ".join(kernel.kernel_id for kernel in matching[:5])
        raise ConfigError(f"several kernels begin with {kernel_id!r}: {ids}")
    if not matching:
        raise KernelNotFound(
            f"no kernel of yours begins with {kernel_id!r}", hint="See: clouditia kernels list"
        )
    return (exact or matching)[0]
