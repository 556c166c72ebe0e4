"""Which web pages may talk to the gateway: one rule for HTTP and websockets.

A request without ``Origin`` comes from no browser page and passes; whoever sends one must come from
this host or from an allowed origin, matched whole (CVE-2026-40110 was a prefix match).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def is_origin_allowed(
    origin: str | None, host: str | None, *, allow_origin: str = "", allow_origin_pat: str = ""
) -> bool:
    """Whether a request of this ``Origin`` may go on.

    Args:
        origin: The ``Origin`` header.
        host: The ``Host`` header of the same request.
        allow_origin: One more origin, or ``*`` for all.
        allow_origin_pat: Regular expression that must match the whole origin.
    """
    if origin is None or allow_origin == "*":
        return True
    origin = origin.lower()
    if host is not None and urlsplit(origin).netloc == host.lower():
        return True
    if allow_origin:
        return origin == allow_origin.lower()
    return bool(allow_origin_pat) and re.fullmatch(allow_origin_pat, origin) is not None
