"""The provisioner of a kernelspec that joins a running kernel: a guest, who only ever lets go.

Everything else is as with a kernel of one's own: interrupts, a restart in place, no death for want
of a network.
"""

# ruff: noqa: FBT001, FBT002  (the signatures are jupyter_client's)

from __future__ import annotations

from typing import TYPE_CHECKING

from clouditia.bridge.options import parse_options
from clouditia.provisioner import ClouditiaProvisioner

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AttachProvisioner"]


class AttachProvisioner(ClouditiaProvisioner):
    """Runs ``clouditia-kernel --attach`` for one kernel manager."""

    def _find_again(self, environ: Mapping[str, str]) -> str:
        """The kernel that the spec names, whatever notebook it is for; the bridge looks for it."""
        return parse_options(self.kernel_spec.argv[1:]).kernel_id or ""

    async def shutdown_requested(self, restart: bool = False) -> None:
        """A ``shutdown_request`` is on its way to the bridge, which lets go of the kernel, too."""
        if not restart:
            self._let_go()
        await super().shutdown_requested(restart=restart)

    async def cleanup(self, restart: bool = False) -> None:
        """As the base, but the kernel stays, also where it was to be killed at once."""
        if not restart:
            self._let_go()
        await super().cleanup(restart=restart)

    def _let_go(self) -> None:
        self._is_released = True
        if self._bridge is not None:
            self._bridge.tell("detach")
