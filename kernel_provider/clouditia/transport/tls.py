"""Which TLS a connection to a gateway must use, decided in one place.

A gateway is trusted by the system's authorities, by one CA file, or by a *pin*: the SHA-256 of its
certificate. A pinned context checks no authority and no host name; instead the check of the pin is
part of the handshake itself, so that no byte (and no key) is ever sent on an unchecked connection,
whoever uses the context.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clouditia.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PinMismatch",
    "TlsPolicy",
    "client_context",
    "is_loopback",
    "normalize_pin",
    "policy_for",
    "verify_pin",
]


class PinMismatch(ssl.SSLCertVerificationError):
    """The peer's certificate is not the pinned one.

    An ``SSLError``, because that is what asyncio expects from a handshake that failed.
    """

    def __init__(self, expected: str, seen: str) -> None:
        # Where OpenSSL itself refuses a certificate, these two attributes say why.
        self.verify_code = 0
        self.verify_message = f"its sha256 is {seen or 'absent'}, the pin says {expected}"
        super().__init__(1, f"wrong certificate: {self.verify_message}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True)
class TlsPolicy:
    """A client context together with the check that belongs to it.

    Attributes:
        context: Hand it to ``wrap_socket``, ``wrap_bio``, asyncio or websockets as it is.
        pin: SHA-256 of the only certificate that is accepted, or None.
    """

    context: ssl.SSLContext
    pin: str | None = None

    def check(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> None:
        """Check the pin again after the handshake; does nothing without one.

        Raises:
            PinMismatch: the peer showed another certificate, or none.
        """
        if self.pin is not None:
            verify_pin(ssl_object, self.pin)


def verify_pin(ssl_object: ssl.SSLObject | ssl.SSLSocket, pin: str) -> None:
    """Compare the peer's certificate with ``pin`` (64 hex digits).

    Raises:
        PinMismatch: the peer showed another certificate, or none.
    """
    certificate = ssl_object.getpeercert(binary_form=True)
    seen = hashlib.sha256(certificate).hexdigest() if certificate else ""
    if not hmac.compare_digest(seen, pin):
        raise PinMismatch(pin, seen)


def normalize_pin(pin: str) -> str:
    """The 64 lower-case hex digits of ``pin``; ``sha256:`` in front and colons are accepted.

    Raises:
        ConfigError: it is not a SHA-256 in hex.
    """
    digits = re.sub(r"^sha-?256[:=]", "", pin.strip().lower()).replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ConfigError(
            f"a pin is the SHA-256 of the gateway's certificate in 64 hex digits, got {pin!r}",
            hint="See it with: openssl x509 -in cert.pem -outform der | sha256sum",
        )
    return digits


def client_context(ca_file: Path | str | None = None, pin: str | None = None) -> TlsPolicy:
    """The policy for one gateway.

    Args:
        ca_file: PEM file of the only authorities to trust; default: those of the system.
        pin: SHA-256 of the only certificate to trust; then no authority and no name is checked.

    Raises:
        ConfigError: both are given, the file cannot be used, or the pin is malformed.
    """
    if ca_file is not None and pin is not None:
        raise ConfigError("give either a CA file or a pin, not both")
    if pin is not None:
        digits = normalize_pin(pin)
        return TlsPolicy(_pinned_context(digits), digits)
    try:
        return TlsPolicy(ssl.create_default_context(cafile=str(ca_file) if ca_file else None))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"the CA file {ca_file} cannot be used: {exc}",
            hint="It must hold one or more certificates in PEM form.",
        ) from exc


def policy_for(
    url: str, *, ca_file: Path | str | None = None, pin: str | None = None
) -> TlsPolicy | None:
    """The policy for connections to ``url``; None for plain http to this very machine.

    Raises:
        ConfigError: the URL is plain http to another machine, or the CA file or pin is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme in ("https", "wss"):
        return client_context(ca_file, pin)
    if not is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"{url} is not encrypted and leads to another machine; keys are not sent over it",
            hint="Use https:// (the gateway takes --tls-cert and --tls-key), or an SSH tunnel.",
        )
    if ca_file is not None or pin is not None:
        raise ConfigError(f"a CA file or a pin needs https://, but the URL is {url}")
    return None


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pinned_context(pin: str) -> ssl.SSLContext:
    """A context whose handshakes fail unless the peer's certificate matches ``pin``."""

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001,FBT002  # the signature
            super().do_handshake(block)
            verify_pin(self, pin)

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            verify_pin(self, pin)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Documented hooks of SSLContext: what wrap_socket() and wrap_bio() instantiate.
    context.sslsocket_class = PinnedSocket
    context.sslobject_class = PinnedObject
    return context
