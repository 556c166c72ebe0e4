"""Messages that the host itself writes: notices, and answers in place of a dead kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clouditia.protocol.answers import error_content
from clouditia.protocol.messages import (
    CLOUDITIA,
    IOPUB,
    MAX_BUFFERS,
    MAX_MESSAGE_BYTES,
    Buffer,
    Message,
    encode_json,
)

#: What a message may hold so that its v1 frame, offsets included, passes a link.
MAX_SIZE_BYTES = MAX_MESSAGE_BYTES - 8 * (MAX_BUFFERS + 16)
#: How much of the journal is kept in memory while the disk does not take it.
OVERFLOW_BYTES = 64 * 1024 * 1024

_JUPYTER_PROTOCOL = "5.4"


class MessageFactory:
    """Makes messages with fresh ids.

    Attributes:
        session: Of the kernel, once that is known, else our own. Clients that see another session
            between a kernel's messages (JupyterLab) drop those that they have not handled yet.
    """

    def __init__(self) -> None:
        self._name = self.session = os.urandom(16).hex()
        self._count = 0

    def make(
        self, channel: str, msg_type: str, content: Mapping[str, Any], parent: Buffer = b"{}"
    ) -> Message:
        """A message of the host; ``parent`` is the encoded header of what it answers."""
        self._count += 1
        header = {
            "msg_id": f"{self._name}_{self._count}",
            "msg_type": msg_type,
            "session": self.session,
            "username": "clouditia",
            "date": datetime.now(UTC).isoformat(),
            "version": _JUPYTER_PROTOCOL,
        }
        return Message(channel, encode_json(header), parent, b"{}", encode_json(dict(content)))

    def notice(self, msg_type: str, **content: Any) -> Message:
        """A message on the ``clouditia`` channel (docs/protocol.md)."""
        return self.make(CLOUDITIA, msg_type, content)

    def status(self, execution_state: str, parent: Buffer = b"{}") -> Message:
        """An iopub status."""
        return self.make(IOPUB, "status", {"execution_state": execution_state}, parent)

    def stderr(self, text: str, parent: Buffer) -> Message:
        """A line in the output of the cell that ``parent`` is the header of."""
        return self.make(IOPUB, "stream", {"name": "stderr", "text": text}, parent)

    def fitting(self, message: Message) -> Message:
        """``message``, or what is said in its place when it is too large for a link."""
        if message.size <= MAX_SIZE_BYTES and len(message.buffers) <= MAX_BUFFERS:
            return message
        what = (
            f"a message of {message.size} bytes in {len(message.buffers)} buffers was dropped; "
            f"the limit is {MAX_SIZE_BYTES} bytes in {MAX_BUFFERS} buffers."
        )
        if message.channel == IOPUB:
            return self.stderr(f"[clouditia] {what}\n", message.parent_header)
        content = {"status": "error", **error_content("MessageTooLarge", what)}
        return message._replace(content=encode_json(content), buffers=())


def disk_trouble(why: str) -> str:
    """What a cell is told when the journal cannot be written."""
    return (
        f"[clouditia] the journal of this kernel cannot be written: {why}. The kernel runs on. "
        f"Its output is kept in memory, {OVERFLOW_BYTES >> 20} MiB of it, until the disk of the "
        "kernel's machine takes it; beyond that the oldest printed text is left out, with a mark. "
        "Free space there.\n"
    )


def disk_recovery(messages: int, size_bytes: int) -> str:
    """What a cell is told when the disk takes the journal again."""
    left_out = "nothing was left out"
    if messages:
        left_out = f"{messages} messages ({size_bytes} bytes) of older output were left out"
    return f"[clouditia] the journal of this kernel is written again; {left_out}.\n"
