"""What the benchmarks share: a user, a gateway in its own process, a target with kernelspecs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome, isolated_home
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The plain local kernel of this environment.
LOCAL_KERNEL = "python3"


@dataclass(frozen=True)
class World:
    """A running gateway and the name of a kernelspec for it."""

    home: IsolatedHome
    gateway: GatewayProcess
    remote_kernel: str

    def processes(self, word: str) -> list[psutil.Process]:
        """Processes of this world whose command line contains ``word``."""
        return [
            process
            for process in processes_under(self.home.directory)
            if word in " ".join(process.cmdline())
        ]


@contextmanager
def running_world() -> Iterator[World]:
    """Start it all in a temporary home, and drain the gateway at the end."""
    with isolated_home() as home, GatewayProcess(home) as gateway:
        yield World(home, gateway, log_in(gateway).kernel_name())


def pss_mb(process: psutil.Process) -> float:
    """Memory of a process in MB, pages shared with others counted in proportion (PSS)."""
    return float(process.memory_full_info().pss) / 1e6
