"""Messages that the bridge itself writes, in the place of a kernel that cannot."""

from __future__ import annotations

import datetime as dt
import os

from clouditia.protocol.messages import CLOUDITIA, Buffer, Message, encode_json

__all__ = ["Composer"]

_MESSAGING_VERSION = "5.4"


class Composer:
    """Writes messages that look as if the kernel had written them.

    Attributes:
        session: Of the kernel that is being stood in for, our own until that is known. A client may
            drop what it has not handled yet of one session once a message of another comes in:
            JupyterLab takes that for a restart.
    """

    def __init__(self) -> None:
        self._name = self.session = os.urandom(16).hex()
        self._count = 0

    def message(
        self, channel: str, msg_type: str, content: object | bytes, parent: Buffer = b"{}"
    ) -> Message:
        """A fresh message.

        Args:
            channel: Channel that it is for.
            msg_type: Its type.
            content: A JSON object, or one that is encoded already.
            parent: Encoded header of the request that it answers.
        """
        self._count += 1
        header = {
            "msg_id": f"{self._name}_{self._count}",
            "msg_type": msg_type,
            "session": self.session,
            "username": "clouditia",
            "date": dt.datetime.now(dt.UTC).isoformat(),
            "version": _MESSAGING_VERSION,
        }
        encoded = content if isinstance(content, bytes) else encode_json(content)
        return Message(channel, encode_json(header), parent, b"{}", encoded)

    def status(self, execution_state: str, *, parent: Buffer = b"{}") -> Message:
        """A kernel status for iopub."""
        return self.message("iopub", "status", {"execution_state": execution_state}, parent=parent)

    def command(self, command: str, **fields: object) -> tuple[str, Message]:
        """An order to the kernel host and its id; see docs/protocol.md, "The clouditia channel"."""
        command_id = f"{self._name}_{self._count + 1}"
        content = {"id": command_id, "command": command, **fields}
        return command_id, self.message(CLOUDITIA, "command", content)
