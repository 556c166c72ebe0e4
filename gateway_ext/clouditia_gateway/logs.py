"""Where log lines go, and what must never be in one."""

from __future__ import annotations

import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAX_LOG_BYTES = 10 * 1024 * 1024
_OLD_LOGS = 3
_SECRETS = (
    (re.compile(r"\b([cs]k_[0-9a-f]{12}_)[0-9a-f]+"), r"\1[redacted]"),
    (re.compile(r"([?&]token=)[^&\s'\"]+", re.IGNORECASE), r"\1[redacted]"),
    (
        re.compile(r"(Authorization['\"]?: *['\"]?(?:token|bearer) +)[^\s'\"]+", re.IGNORECASE),
        r"\1[redacted]",
    ),
)


class RedactingFormatter(logging.Formatter):
    """Formats a record, traceback included, and takes keys out of the result."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without secrets."""
        return redact(super().format(record))


def redact(text: str) -> str:
    """``text`` without API keys, tokens in URLs and credentials in headers."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def configure_logging(log_file: Path) -> list[logging.Handler]:
    """Send log lines to standard error and ``log_file``; returns what to close at the end."""
    formatter = RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    log_file.touch(mode=0o600)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(sys.stderr),
        RotatingFileHandler(log_file, maxBytes=_MAX_LOG_BYTES, backupCount=_OLD_LOGS),
    ]
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    logging.getLogger("clouditia").setLevel(logging.INFO)
    return handlers


def close_logging(handlers: list[logging.Handler]) -> None:
    """Undo :func:`configure_logging`."""
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()
