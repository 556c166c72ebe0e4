"""The Clouditia gateway: a jupyter_server extension app, its engines and the kernel host.

Importing this package must stay free: the kernel host starts through it.
"""

from __future__ import annotations


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Called by jupyter_server to find the extension app."""
    from clouditia_gateway.extension import ClouditiaGateway

    return [{"module": "clouditia_gateway", "app": ClouditiaGateway}]
