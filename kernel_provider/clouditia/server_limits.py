"""Output of remote kernels in a Jupyter server: without its rate limit, which drops what is beyond.

A Jupyter server passes on 1000 messages and 1 MB of printed text a second, and drops the rest with
a warning. That cannot be had back, and what was missed in an outage comes faster than that. So the
websockets of our kernels have no limit; those of other kernels keep theirs.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["lift_rate_limit"]

_CONNECTION = "kernel_websocket_connection_class"
_OPTIONS = ("limit_rate", "iopub_data_rate_limit", "iopub_msg_rate_limit", "rate_limit_window")


def lift_rate_limit(provisioner_class: type) -> None:
    """Let websockets to kernels of this provisioner pass everything, in this process's server.

    Does nothing outside a Jupyter server, and where its user has set a limit. Harmless when
    repeated.

    Args:
        provisioner_class: Tells which kernels are meant.
    """
    module = sys.modules.get("jupyter_server.serverapp")
    if module is None or not module.ServerApp.initialized():
        return
    server = module.ServerApp.instance()
    settings = getattr(getattr(server, "web_app", None), "settings", {})
    current = settings.get(_CONNECTION)
    if current is None or hasattr(current, "is_unlimited_for") or _has_own_limit(server, current):
        return
    settings[_CONNECTION] = _without_limit(current, provisioner_class)


def _has_own_limit(server: Any, connection_class: type) -> bool:
    sections = [server.config.get(each.__name__, {}) for each in connection_class.__mro__]
    return any(option in section for section in sections for option in _OPTIONS)


def _without_limit(connection_class: Any, provisioner_class: type) -> type:
    class Connection(connection_class):  # type: ignore[misc]  # whatever the server uses
        is_unlimited_for = provisioner_class

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            provisioner = getattr(self.parent, "provisioner", None)
            if isinstance(provisioner, provisioner_class) and hasattr(self, "limit_rate"):
                self.limit_rate = False

    Connection.__name__ = connection_class.__name__  # its options are found by this name
    return Connection
