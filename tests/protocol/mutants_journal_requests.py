"""Hand-made faults of the journal's memory of requests: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_journal_requests.py"
FILE = "kernel_provider/clouditia/protocol/journal_requests.py"

MUTANTS: list[tuple[str, str, str]] = [
    (FILE, "return self.replied and self.idle_seen", "return self.replied or self.idle_seen"),
    (FILE, "return self.replied and self.idle_seen", "return self.replied"),
    (FILE, "if request.up_seq > self.received_from(request.client_id):", "if True:"),
    (FILE, "if self.known(request.msg_id, request.msg_type) is not None:", "if False:"),
    (FILE, "if expects_reply(request.channel, request.msg_type):", "if True:"),
    (FILE, "popitem(last=False)", "popitem()"),
    (FILE, "if len(self._replyless) > MAX_REPLYLESS_IDS:", "if False:"),
    (FILE, "if tag == Tag.REPLY:", "if tag != Tag.REPLY:"),
    (FILE, "            del self._unfinished[msg_id]\n", ""),
    (FILE, "len(self._spans) // 2", "len(self._spans)"),
    (FILE, "self._spans.extend((state.first_seq, seq))", "self._spans.extend((seq, seq))"),
    (FILE, "return KnownRequest(state.first_seq, None)", "return None"),
    (FILE, "if state is not None and state.msg_type == msg_type:", "if state is not None:"),
    (FILE, 'return msg_type + " " + msg_id', "return msg_id"),
    (FILE, 'key.encode("utf-8", "surrogatepass")', 'key.encode("utf-8", "replace")'),
    (
        FILE,
        'key.encode("utf-8", "surrogatepass")',
        'key.encode("utf-8", "surrogatepass")[:64]',
    ),
    (FILE, "self._received.get(client_id, 0)", "self._received.get(client_id, 1)"),
]
