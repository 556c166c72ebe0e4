"""A user who has logged in to a stock server, through a proxy that can break the network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers.enterprise_gateway import PlainServer

from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until

COMMAND_TIMEOUT_S = 60.0
WAIT_S = 60.0


@dataclass(frozen=True)
class Done:
    """How a ``clouditia`` command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class PlainTarget:
    """A named target, the server behind it and the proxy between them."""

    name: str
    server: PlainServer
    proxy: ChaosProxy
    home: IsolatedHome
    login: Done

    def kernel_name(self, remote: str) -> str:
        """Name of the local kernelspec for the server's kernelspec ``remote``."""
        return f"clouditia-{self.name}-{remote}"

    def wait_until_gone(self, kernel_id: str) -> None:
        wait_until(
            lambda: self.server.ask("GET", f"/api/kernels/{kernel_id}").status == 404,
            WAIT_S,
            what=f"the server ends kernel {kernel_id}",
        )


@dataclass(frozen=True)
class RemoteKernel:
    """One kernelspec of a stock server."""

    target: PlainTarget
    remote_name: str

    @property
    def name(self) -> str:
        return self.target.kernel_name(self.remote_name)


def command(home: IsolatedHome, *arguments: str) -> Done:
    """Run ``clouditia`` as the home's user, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "clouditia.cli", *arguments],
        env=home.environment(),
        cwd=home.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def log_in(home: IsolatedHome, url: str, name: str, token: str) -> Done:
    """``clouditia login`` with a token from a file."""
    key_file = home.directory / f"{name}.token"
    key_file.write_text(token + "\n")
    key_file.chmod(0o600)
    return command(home, "login", url, "--name", name, "--key-file", str(key_file))


@contextmanager
def plain_target(home: IsolatedHome, name: str, server: PlainServer) -> Iterator[PlainTarget]:
    """Log in to a server through a proxy; end its kernels afterwards."""
    with ChaosProxy("127.0.0.1", server.port) as proxy:
        url = f"http://{proxy.host}:{proxy.port}{server.base_path}"
        login = log_in(home, url, name, server.token)
        assert login.code == 0, login.err
        yield PlainTarget(name, server, proxy, home, login)
        for kernel_id in server.kernel_ids:
            server.ask("DELETE", f"/api/kernels/{kernel_id}")
