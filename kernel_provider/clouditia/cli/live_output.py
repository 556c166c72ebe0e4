"""A kernel's messages as text for a terminal, or as JSON lines."""

from __future__ import annotations

import json
from typing import Any, TextIO

from clouditia.terminal_text import TerminalFilter

__all__ = ["LiveOutput"]


class LiveOutput:
    """Writes iopub messages as they come.

    Args:
        out: Gets what the code prints and shows; under ``as_json`` every message as one line.
        err: Gets what the code writes to stderr, errors, and the code itself.
        as_json: Whether a program reads ``out``.
    """

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json
        # Files and pipes get what was printed, byte by byte.
        self._filters = {stream: TerminalFilter() for stream in (out, err) if stream.isatty()}

    def show(self, msg_type: str, content: dict[str, Any]) -> None:
        """Write one message; those that show nothing are left out."""
        if self._as_json:
            self._out.write(json.dumps({"msg_type": msg_type, "content": content}) + "\n")
            self._out.flush()
            return
        stream, text = self._text(msg_type, content)
        if stream in self._filters:
            text = self._filters[stream].feed(text)
        if text:
            stream.write(text)
            stream.flush()

    def _text(self, msg_type: str, content: dict[str, Any]) -> tuple[TextIO, str]:
        if msg_type == "stream":
            is_stderr = content.get("name") == "stderr"
            return self._err if is_stderr else self._out, str(content.get("text", ""))
        if msg_type in ("execute_result", "display_data"):
            data = content.get("data")
            plain = data.get("text/plain", "") if isinstance(data, dict) else ""
            return self._out, f"{plain}\n"
        if msg_type == "error":
            traceback = content.get("traceback")
            lines = traceback if isinstance(traceback, list) else []
            return self._err, "\n".join(map(str, lines)) + "\n"
        if msg_type == "execute_input":
            code = str(content.get("code", "")).strip()
            return self._err, f"In [{content.get('execution_count', ' ')}]: {code}\n"
        return self._out, ""
