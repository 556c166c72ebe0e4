"""The gateway's limits on the life of kernels: what operators set and what owners may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clouditia.errors import ConfigError
from clouditia_gateway.host.lifespan import Policy, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

#: In ``env`` of a request or of a kernelspec: seconds. Front ends pass ``KERNEL_*`` on.
TTL_VARIABLE = "KERNEL_DETACHED_TTL"
#: In ``metadata.clouditia`` of a kernelspec.
TTL_METADATA = "detached_ttl"


def checked(policy: Policy) -> Policy:
    """The limits, if they can work.

    Raises:
        ConfigError: one is negative, or the default is above the maximum.
    """
    for name, seconds in policy.to_wire().items():
        if seconds < 0:
            raise ConfigError(
                f"--{name.removesuffix('_s').replace('_', '-')} must be at least 0 s, "
                f"got {seconds:g}",
                hint="0 means no limit.",
            )
    if policy.max_detached_ttl_s and policy.detached_ttl_s > policy.max_detached_ttl_s:
        raise ConfigError(
            f"--detached-ttl {policy.detached_ttl_s:g} is above "
            f"--max-detached-ttl {policy.max_detached_ttl_s:g}"
        )
    return policy


def wanted_ttl(env: Mapping[str, str], metadata: Mapping[str, Any], policy: Policy) -> float:
    """The ``detached_ttl`` in seconds that a kernel is started with; 0 leaves it to the gateway.

    Raises:
        ConfigError: it is no positive number, or above the gateway's maximum.
    """
    ours = metadata.get("clouditia")
    of_spec = ours.get(TTL_METADATA) if isinstance(ours, dict) else None
    wanted = env.get(TTL_VARIABLE) or of_spec
    if wanted is None:
        return 0.0
    try:
        seconds = float(wanted)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(
            f"{TTL_VARIABLE} must be a number of seconds above 0, got {str(wanted)[:80]!r}"
        )
    if policy.max_detached_ttl_s and seconds > policy.max_detached_ttl_s:
        raise ConfigError(
            f"{TTL_VARIABLE} is {seconds:g} s, this gateway allows at most "
            f"{policy.max_detached_ttl_s:g} s",
            hint="Leave it out to get that.",
        )
    return seconds


def sentence(policy: Policy) -> str:
    """What the gateway ends, for people; empty when it ends nothing."""
    parts = []
    for limit in policy.limits():
        nobody = " and no client" if limit.counts_clients else ""
        parts.append(f"have had no work{nobody} for {duration(limit.seconds)} ({limit.name})")
    return f"this gateway ends kernels that {' or '.join(parts)}" if parts else ""
