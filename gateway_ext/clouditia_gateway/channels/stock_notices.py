"""What a stock client is told in place of the kernel host's own notices.

A stock client knows no ``clouditia`` channel. It learns of a kernel's death as from jupyter_server:
an iopub ``status`` without parent. ``restarting`` is never made up: JupyterLab reads it as a crash
with an automatic restart, which does not happen here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clouditia.protocol.messages import IOPUB, Message, encode_json, encode_v1

_PROTOCOL_VERSION = "5.3"


def status_frame(execution_state: str, session: str) -> bytes:
    """An iopub status without parent, as a v1 frame."""
    return _frame("status", {"execution_state": execution_state}, session)


def gap_frame(info: Mapping[str, Any], count: int, session: str) -> bytes:
    """A line on stderr that says what can no longer be had, as a v1 frame."""
    reason = info.get("reason") or "unknown reason"
    text = f"[clouditia] {count} earlier messages of this kernel are gone ({reason}).\n"
    return _frame("stream", {"name": "stderr", "text": text}, session)


def death_epoch(msg_type: str, content: Mapping[str, Any]) -> int | None:
    """Epoch of the kernel whose end a host notice reports, ``None`` if it reports no end."""
    is_end = msg_type == "kernel_ended" or (
        msg_type == "kernel_state" and content.get("execution_state") == "dead"
    )
    if not is_end:
        return None
    epoch = content.get("epoch")
    return epoch if isinstance(epoch, int) else 2**63


def _frame(msg_type: str, content: Mapping[str, Any], session: str) -> bytes:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "username": "clouditia",
        "session": session,
        "date": datetime.now(UTC).isoformat(),
        "version": _PROTOCOL_VERSION,
    }
    message = Message(IOPUB, encode_json(header), b"{}", b"{}", encode_json(content))
    return b"".join(encode_v1(message))
