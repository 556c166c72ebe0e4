"""Works on a kernel's journal as its host does, without a kernel."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from tests.crash.victim import serve

from clouditia.protocol.journal import UpRequest
from clouditia.protocol.journal_retention import Retention
from clouditia.protocol.messages import IOPUB, SHELL, Message, encode_json
from clouditia_gateway.host.chronicle import Chronicle
from clouditia_gateway.host.journal_files import JournalFiles

#: So small that segments are closed and compacted all the time.
RETENTION = Retention(max_bytes=512 * 1024, max_age_s=1e9)


def opened(directory: Path) -> JournalFiles:
    clock = itertools.count(10**18)
    journal = JournalFiles(directory, RETENTION, lambda: next(clock))
    journal.load("this boot")
    return journal


def printed(text: str, size: int) -> Message:
    content = encode_json({"name": "stdout", "text": text.ljust(size, ".")})
    return Message(IOPUB, encode_json({"msg_type": "stream"}), b"{}", b"{}", content)


def answer(msg_id: str) -> list[Message]:
    """The reply and the idle of a request."""
    parent = encode_json({"msg_id": msg_id})
    reply = Message(SHELL, encode_json({"msg_type": "execute_reply"}), parent, b"{}", b"{}")
    idle = encode_json({"execution_state": "idle"})
    return [reply, Message(IOPUB, encode_json({"msg_type": "status"}), parent, b"{}", idle)]


class Host:
    """Answers what became of each operation."""

    def __init__(self, directory: Path) -> None:
        self._journal = opened(directory)
        clock = itertools.count(10**18)
        self._chronicle = Chronicle(self._journal, lambda: next(clock), lambda _: None)
        self._chronicle.begin_epoch()

    def carry_out(self, name: str, *arguments: object) -> object:
        """Returns the number of the first message, or whether a request was new."""
        first = self._journal.next_seq
        if name == "say":
            text, count, size = arguments
            self._chronicle.publish([printed(f"{text}.{n}", size) for n in range(count)])  # type: ignore[arg-type, call-overload]
        elif name == "answer":
            self._chronicle.publish(answer(str(arguments[0])))
        elif name == "ask":
            msg_id, client_id, up_seq = arguments
            request = UpRequest(str(client_id), up_seq, str(msg_id), "execute_request", SHELL)  # type: ignore[arg-type]
            return self._chronicle.asked(request) is None
        return first


if __name__ == "__main__":
    serve(Host(Path(sys.argv[1])).carry_out)
