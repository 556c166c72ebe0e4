"""Websocket close codes of the gateway; 4xxx follow the HTTP status they stand for.

Sources: RFC 6455 section 7.4.1; docs/host-protocol.md, "Refusals".
"""

from __future__ import annotations

NORMAL = 1000
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011

REPLACED = 4001
BAD_TOKEN = 4401
UNKNOWN_KERNEL = 4404
NEWER_FENCE = 4409
TOO_OLD = 4426
HOST_LOST = 4503

#: A close frame holds 125 bytes, two of them are the code (RFC 6455 section 5.5).
MAX_REASON_BYTES = 123


def fit_reason(reason: str) -> str:
    """``reason`` cut to what a close frame can hold, on a character border."""
    raw = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES]
    return raw.decode("utf-8", "ignore")


def is_sendable(code: int | None) -> bool:
    """Whether a close code may be passed on: the private range, or a plain goodbye."""
    return code is not None and (code in (NORMAL, INTERNAL_ERROR) or 4000 <= code <= 4999)
