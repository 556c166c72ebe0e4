"""Errors that only a gateway raises, and the HTTP status of every error class."""

from __future__ import annotations

from clouditia import errors
from clouditia.errors import ClouditiaError, SessionError


class NotFoundError(SessionError):
    """No such route, session, kernelspec or file (HTTP 404)."""

    code = "not_found"


class BadRequestError(ClouditiaError):
    """The request itself is not understood (HTTP 400)."""

    code = "bad_request"


class MethodNotAllowedError(ClouditiaError):
    """The route exists, but not with this method (HTTP 405)."""

    code = "method_not_allowed"


class StaleHostError(SessionError):
    """A kernel host dialled in whose kernel has a newer host (websocket close 4409)."""

    code = "stale_host"


class DrainingError(SessionError):
    """The gateway is ending all kernels and takes no new ones (HTTP 503)."""

    code = "draining"


class StorageError(ClouditiaError):
    """The gateway cannot write down what was asked for: its disk is full or fails (HTTP 507)."""

    code = "storage"


#: The first matching class counts.
_STATUS: tuple[tuple[type[ClouditiaError], int], ...] = (
    (errors.AuthenticationError, 401),
    (errors.PermissionDeniedError, 403),
    (errors.KernelNotFound, 404),
    (NotFoundError, 404),
    (MethodNotAllowedError, 405),
    (DrainingError, 503),
    (StorageError, 507),
    (errors.PackageTooLarge, 413),
    (errors.PathNotAllowed, 400),
    (errors.ConfigError, 400),
    (BadRequestError, 400),
    (errors.NoDeviceAvailable, 429),
    (errors.QuotaError, 429),
    (errors.ConnectionLostError, 503),
    (errors.TimeoutError, 504),
    (errors.SessionError, 409),
    (errors.LeaseError, 409),
    (errors.ProtocolError, 400),
)


def http_status(error: ClouditiaError) -> int:
    """The HTTP status of an error; 500 for what has none of its own."""
    if error.details.get("retry_after") is not None and isinstance(
        error, errors.AuthenticationError
    ):
        return 429
    for cls, status in _STATUS:
        if isinstance(error, cls):
            return status
    return 500
