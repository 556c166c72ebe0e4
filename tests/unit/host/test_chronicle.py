"""Which messages may wait a moment for those that follow them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouditia.protocol.journal_retention import Retention
from clouditia.protocol.messages import Message, encode_json
from clouditia_gateway.host.chronicle import Chronicle
from clouditia_gateway.host.journal_files import JournalFiles


def message(channel: str, msg_type: str, **content: object) -> Message:
    header = encode_json({"msg_id": "m", "msg_type": msg_type})
    return Message(channel, header, encode_json({"msg_id": "r"}), b"{}", encode_json(content))


BUSY = message("iopub", "status", execution_state="busy")
IDLE = message("iopub", "status", execution_state="idle")
INPUT = message("iopub", "execute_input", code="1+1")
TEXT = message("iopub", "stream", name="stdout", text="x")
RESULT = message("iopub", "execute_result", data={})
REPLY = message("shell", "execute_reply", status="ok")


@pytest.mark.parametrize(
    ("batch", "is_idle_expected", "may_wait"),
    [
        ([BUSY], True, True),
        ([BUSY, INPUT], True, True),
        ([TEXT], True, False),
        ([BUSY, TEXT], True, False),
        ([RESULT], True, False),
        ([REPLY], True, True),
        ([REPLY], False, False),
        ([IDLE], True, False),
        ([IDLE], False, False),
    ],
)
def test_only_what_shows_nothing_by_itself_may_wait(
    tmp_path: Path, batch: list[Message], *, is_idle_expected: bool, may_wait: bool
) -> None:
    journal = JournalFiles(tmp_path / "journal", Retention(), lambda: 1)
    journal.load()
    told: list[bool] = []
    chronicle = Chronicle(journal, lambda: 1, told.append)
    chronicle.is_idle_expected = lambda: is_idle_expected
    chronicle.begin_epoch()
    chronicle.publish(batch)
    assert told == [may_wait]
    journal.close()
