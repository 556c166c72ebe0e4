"""Which web pages may talk to the gateway: one rule for HTTP and websockets.

A request without ``Origin`` comes from no browser page and passes; whoever sends one must come from
this host or from an allowed origin, matched whole (CVE-2026-40110 was a prefix match).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_foreign_page(headers: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether a browser says that a page of another site has sent this request.

    Args:
        headers: Of the request. ``Sec-Fetch-Site`` shows what has no ``Origin``, such as images.
        settings: Tornado's; jupyter_server keeps allowed origins there.
    """
    origin = headers.get("Origin")
    if origin is None:
        return headers.get("Sec-Fetch-Site", "none").lower() not in ("none", "same-origin")
    return not is_origin_allowed(
        origin,
        headers.get("Host"),
        allow_origin=settings.get("allow_origin", ""),
        allow_origin_pat=settings.get("allow_origin_pat", ""),
    )


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
