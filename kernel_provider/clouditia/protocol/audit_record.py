"""One line of the audit log as a value."""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple, Optional

MAX_LINE_BYTES = 16 * 1024


class Record(NamedTuple):
    """What every line has, and the fields of its event."""

    number: int
    at: str
    event: str
    prev: str
    fields: Dict[str, Any]


def parse_record(line: bytes) -> Optional[Record]:
    """The record of a line, or None if it is none."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    number, at = value.pop("n", None), value.pop("at", None)
    event, prev = value.pop("event", None), value.pop("prev", None)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return None
    if not (isinstance(at, str) and isinstance(event, str) and isinstance(prev, str)):
        return None
    return Record(number, at, event, prev, value)
