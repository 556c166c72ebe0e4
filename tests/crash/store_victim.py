"""Works on a gateway's database."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

from tests.crash.victim import serve

from clouditia.errors import KernelNotFound
from clouditia_gateway.records import KernelRecord
from clouditia_gateway.store import KeyRecord, SessionRecord, Store

NOW = "2026-01-01T00:00:00.000000Z"


def carry_out(store: Store, name: str, *arguments: Any) -> bool:
    """Do it; False where a rule of the database forbids it."""
    record: Any = None
    if name == "add_kernel":
        kernel_id, owner, token = arguments
        directory = f"/x/k/{kernel_id}"
        record = KernelRecord(kernel_id, owner, "py", "Py", "", directory, 1, token, "", NOW)
    elif name == "save_session":
        session_id, owner, path, kernel_id = arguments
        record = SessionRecord(session_id, owner, path, "", "notebook", kernel_id, NOW)
    elif name == "add_key":
        key_id, user = arguments
        record = KeyRecord(key_id, user, is_admin=False, secret_sha256="ab" * 32, created_at=NOW)
    try:
        getattr(store, name)(*([record] if record is not None else arguments))
    except (sqlite3.IntegrityError, KernelNotFound):
        return False
    return True


if __name__ == "__main__":
    opened = Store(Path(sys.argv[1]))
    serve(lambda *operation: carry_out(opened, *operation))
    opened.close()
