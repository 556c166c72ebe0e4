"""A user who has logged in to a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clouditia.testing.gateway_process import GatewayProcess


@dataclass(frozen=True)
class LoggedInTarget:
    """What a user has after ``clouditia login``: a named target and its kernelspecs."""

    name: str
    user: str
    key: str
    gateway: GatewayProcess

    def kernel_name(self, remote: str = "python3") -> str:
        """Name of the local kernelspec for the gateway's kernelspec ``remote``."""
        return f"clouditia-{self.name}-{remote}"

    @property
    def kernelspec_dirs(self) -> list[Path]:
        """The kernelspec directories that the login wrote."""
        kernels = self.gateway.home.jupyter_data_dir / "kernels"
        return sorted(kernels.glob(f"clouditia-{self.name}-*"))


def log_in(
    gateway: GatewayProcess,
    *,
    name: str = "lab",
    user: str = "ada",
    url: str = "",
    options: tuple[str, ...] = (),
) -> LoggedInTarget:
    """Mint a key for ``user`` and log in with it, through the command line.

    Args:
        gateway: A running gateway.
        name: Name of the new target.
        user: Owner of the new key.
        url: Where to log in, when it is not the gateway's own URL (a proxy, a prefix).
        options: More arguments of ``clouditia login``, for example ``--pin``.
    """
    key = gateway.create_key(user)
    key_file = gateway.home.directory / f"{name}.key"
    key_file.write_text(key + "\n")
    key_file.chmod(0o600)
    gateway.run("login", url or gateway.url, "--name", name, "--key-file", str(key_file), *options)
    return LoggedInTarget(name=name, user=user, key=key, gateway=gateway)
