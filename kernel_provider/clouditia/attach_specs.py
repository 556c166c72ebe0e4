"""Kernelspecs of kernels that run already: the way to a running kernel for every front end.

Such a spec names one kernel by its id. Opening it joins that kernel, closing it only lets go; when
the kernel has ended, the spec is of no use any more and goes.
"""

from __future__ import annotations

from typing import Any

from clouditia.errors import ClouditiaError, ConfigError, KernelNotFound
from clouditia.kernelspecs import (
    InstalledSpec,
    SyncReport,
    build_spec,
    installed_specs,
    remote_specs_of,
    remove_specs,
    short_title,
    spec_name,
    write_spec,
)
from clouditia.rest import GatewayClient

__all__ = ["attach_specs", "has_ended", "remove_ended", "write_attach_spec"]

_SHOWN_OF_ID = 8


def write_attach_spec(
    client: GatewayClient,
    target: str,
    model: dict[str, Any],
    *,
    name: str | None = None,
    provisioner: bool = True,
) -> InstalledSpec:
    """Write the kernelspec of one running kernel; one that exists for it is written anew.

    Args:
        client: The gateway.
        target: Its name.
        model: The kernel, as the gateway describes it.
        name: Of the kernelspec; default: ``clouditia-TARGET-attach-`` and the id's beginning.
        provisioner: See :func:`clouditia.kernelspecs.build_spec`.

    Raises:
        ConfigError: the name is none, or somebody else's; or the folder cannot be written.
    """
    kernel, kernel_id = str(model.get("name") or "python3"), str(model["id"])
    short_id = kernel_id[:_SHOWN_OF_ID]
    remote = remote_specs_of(client.kernelspecs()).get(kernel, {})
    spec = build_spec(
        target,
        kernel,
        remote,
        display_name=f"{short_title(remote, kernel)} · {target} · running {short_id}",
        provisioner=provisioner,
        kernel_id=kernel_id,
    )
    wanted = (name or spec_name(target, f"attach-{short_id}")).lower()
    report = SyncReport()
    write_spec(wanted, spec, report)
    for why in report.skipped.values():
        raise ConfigError(
            f"the kernelspec {wanted!r} was not written: {why}", hint="Choose another --name."
        )
    return next(each for each in attach_specs(target) if each.name == wanted)


def attach_specs(target: str | None = None) -> list[InstalledSpec]:
    """The kernelspecs of running kernels, of one target or of all."""
    return [spec for spec in installed_specs(target) if spec.kernel_id]


def has_ended(client: GatewayClient, spec: InstalledSpec) -> bool:
    """Whether the kernel of such a spec is gone for good.

    Raises:
        ClouditiaError: its gateway does not say.
    """
    try:
        client.get_kernel(spec.kernel_id or "")
    except KernelNotFound:
        return True
    return False


def remove_ended(client: GatewayClient, target: str) -> list[str]:
    """Remove the kernelspecs of kernels that have ended; returns their names.

    Raises:
        ConfigError: a folder cannot be removed.
    """
    ended = []
    for spec in attach_specs(target):
        try:
            if has_ended(client, spec):
                ended.append(spec)
        except ClouditiaError:
            continue  # unreachable is not gone
    return remove_specs(ended)
