"""The gateway's settings as one frozen value, checked before anything is opened or started."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from clouditia.errors import ConfigError
from clouditia_gateway.host.lifespan import NO_LIMITS, Policy
from clouditia_gateway.life_limits import checked

DEFAULT_KERNELS_PER_USER = 100
DEFAULT_CONNECTIONS_PER_ADDRESS = 512
EMBEDDED_IDLE_S = 60.0
MAX_BODY_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_MESSAGE_BYTES = 256 * 1024 * 1024

#: Addresses that mean "all", and how this machine reaches itself then.
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (nothing is bound here)
_GPU_SPEC = re.compile(r"[1-9][0-9]{0,2}x[A-Za-z0-9_-]{1,40}(:[1-9][0-9]{0,4}(GiB|GB))?")


@dataclass(frozen=True)
class GatewayConfig:
    """What ``clouditia gateway start`` was asked for.

    Attributes:
        state_dir: Directory of database, keys and kernels.
        host: Address to bind; anything but loopback needs ``tls_cert`` and ``tls_key``.
        port: TCP port; 0 chooses one at the first start and keeps it in the state directory.
        base_url: URL prefix, with a slash at both ends.
        tls_cert: PEM file with the certificate chain.
        tls_key: PEM file with its private key.
        simulate_gpus: Simulated GPUs, such as ``2xH100:80GiB``; empty for none.
        is_embedded: End after 60 s without kernels and clients.
        root_dir: Kernels start in this directory or below it.
        kernels_per_user: Limit of live kernels of one user.
        connections_per_address: Limit of open connections from one address of another machine.
        limits: When kernels that nobody uses are ended; all off by default.
    """

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    base_url: str = "/"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    simulate_gpus: str = ""
    is_embedded: bool = False
    root_dir: Path | None = None
    kernels_per_user: int = DEFAULT_KERNELS_PER_USER
    connections_per_address: int = DEFAULT_CONNECTIONS_PER_ADDRESS
    limits: Policy = NO_LIMITS

    def __post_init__(self) -> None:
        """Refuse what cannot work, in one sentence each."""
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port must be 0 to 65535, got {self.port}")
        for name in ("kernels_per_user", "connections_per_address"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        checked(self.limits)
        if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)*", self.base_url):
            raise ConfigError(
                f"--base-url {self.base_url!r} is not a plain URL path",
                hint="Use letters, digits and . _ ~ - between slashes, such as /clouditia/.",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key belong together, only one was given")
        if not self.is_loopback and self.tls_cert is None:
            raise ConfigError(
                f"refusing to listen on {self.host} without TLS: keys would cross the network "
                "in plain text",
                hint="Give --tls-cert and --tls-key, or listen on 127.0.0.1.",
            )
        if self.simulate_gpus and not all(
            _GPU_SPEC.fullmatch(part) for part in self.simulate_gpus.split(",")
        ):
            raise ConfigError(
                f"--simulate-gpus {self.simulate_gpus!r} is not understood",
                hint="Write COUNTxMODEL:MEMORY, such as 2xH100:80GiB; several with commas.",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def scheme(self) -> str:
        """``https`` with a certificate, else ``http``."""
        return "http" if self.tls_cert is None else "https"

    @property
    def kernel_root(self) -> Path:
        """Kernels start here or below."""
        return self.root_dir or Path.home()

    def url(self, port: int) -> str:
        """The gateway's URL as people use it, without a slash at the end."""
        return self._url(platform.node() if self.host in _WILDCARDS else self.host, port)

    def host_url(self, port: int) -> str:
        """The URL by which kernel hosts on this machine reach the gateway."""
        return self._url(_WILDCARDS.get(self.host, self.host), port)

    def _url(self, host: str, port: int) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{name}:{port}{self.base_url.rstrip('/')}"


def normal_base_url(text: str) -> str:
    """``text`` with exactly one slash at both ends."""
    inner = text.strip("/")
    return f"/{inner}/" if inner else "/"


def server_tls(config: GatewayConfig) -> ssl.SSLContext | None:
    """The context that the gateway serves with, or None without a certificate.

    Raises:
        ConfigError: a file is missing, unreadable, or certificate and key do not match.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=_no_passphrase)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"cannot use the certificate {config.tls_cert} with the key {config.tls_key}: {exc}"
        ) from exc
    return context


def _no_passphrase() -> str:
    """Called for encrypted keys; a gateway has nobody to ask."""
    raise ValueError("the key is encrypted with a passphrase")


def certificate_pin(config: GatewayConfig) -> str | None:
    """Hex sha256 of the served certificate in DER form, or None without one."""
    if config.tls_cert is None:
        return None
    import hashlib

    pem = config.tls_cert.read_text("ascii", "replace")
    match = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    if match is None:
        raise ConfigError(f"{config.tls_cert} holds no PEM certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(match.group())).hexdigest()


def default_state_dir() -> Path:
    """``CLOUDITIA_STATE_DIR``/gateway, or ``gateway`` in the user's Clouditia state directory."""
    configured = os.environ.get("CLOUDITIA_STATE_DIR")
    if configured:
        return Path(configured).expanduser() / "gateway"
    import platformdirs

    return Path(platformdirs.user_state_dir("clouditia")) / "gateway"
