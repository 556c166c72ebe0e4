"""Why a front end lets go of a kernel: because its user wants it gone, or because it closes itself.

jupyter_client tells a provisioner only "shut down". Inside a Jupyter server two things say more:
the request that is being served (its ``CallContext``), and whether the server is stopping. Measured
with jupyter_server 2.21: timers inherit the context of the request that created them, so a handler
counts only while it is unfinished.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any

_CLOCKS_APART_S = time.time() - time.monotonic()

__all__ = ["is_closing_down", "is_user_request"]


def is_user_request() -> bool:
    """Whether this code runs on behalf of an HTTP request that is still being served."""
    module = sys.modules.get("jupyter_server")
    if module is None:
        return False
    context = module.CallContext
    handler = context.get(context.JUPYTER_HANDLER)
    return handler is not None and not getattr(handler, "_finished", False)


def is_closing_down(manager: object) -> bool:
    """Whether the kernel of ``manager`` is shut down only because its server closes.

    A manager that belongs to no Jupyter server (nbclient, a console) never closes down in this
    sense: whoever started such a kernel ends it. In doubt the answer is yes: the kernel is kept.
    """
    server_module = sys.modules.get("jupyter_server.serverapp")
    if server_module is None or not _belongs_to_server(manager):
        return False
    if _is_stopping(server_module.ServerApp):
        return True
    return not is_user_request() and not _is_overdue(manager)


def _belongs_to_server(manager: object) -> bool:
    module = sys.modules.get("jupyter_server.services.kernels.kernelmanager")
    return module is not None and isinstance(manager, module.ServerKernelManager)


def _is_stopping(server_class: Any) -> bool:
    return bool(server_class.initialized() and getattr(server_class.instance(), "_stopping", False))


def _is_overdue(manager: Any) -> bool:
    """Whether the server's idle limit for this kernel has passed: then its culler is at work."""
    limit_s = getattr(manager.parent, "cull_idle_timeout", 0)
    last_activity = getattr(manager, "last_activity", None)
    if not limit_s or not isinstance(last_activity, datetime):
        return False
    passed_s = (datetime.now(UTC) - last_activity).total_seconds()
    # The culler goes by the time of day. Where only that has leapt, nobody was idle for so long.
    return passed_s - max(0.0, _leapt_s()) > limit_s


def _leapt_s() -> float:
    """By how much the time of day has gone ahead of steady time since this module was imported."""
    return time.time() - time.monotonic() - _CLOCKS_APART_S
