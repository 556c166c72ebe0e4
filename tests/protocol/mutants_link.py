"""Hand-made faults of the link that its tests must catch: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_link.py"
_DIR = "kernel_provider/clouditia/protocol/"
RECEIVER, SENDER, LINK = _DIR + "link_receiver.py", _DIR + "link_sender.py", _DIR + "link.py"

MUTANTS: list[tuple[str, str, str]] = [
    # de-duplication and order
    (RECEIVER, "if data.seq <= self.received:", "if data.seq < self.received:"),
    (RECEIVER, "if data.seq != self.received + 1:", "if data.seq > self.received + 2:"),
    (RECEIVER, "        self.received = seq\n", "        self.received = seq + 1\n"),
    # assembly
    (
        RECEIVER,
        "        self._partial = None\n        self._taken_bytes = 0",
        "        self._taken_bytes = 0",
    ),
    (RECEIVER, "if data.total > self._max_message:", "if data.total > 2 * self._max_message + 10:"),
    (RECEIVER, "if data.offset != filled or (", "if data.offset < filled or ("),
    # credit
    (RECEIVER, "if self._taken_bytes > self.credit:", "if self._taken_bytes > 2 * self.credit:"),
    (
        RECEIVER,
        "            self._freed_bytes += data.payload.nbytes\n            return None",
        "            return None",
    ),
    (
        RECEIVER,
        "self._freed_bytes = -sum(size for _, size in self._sizes)",
        "self._freed_bytes = 0",
    ),
    (RECEIVER, "free = max(0, end - self._window // 2)", "free = end"),
    (RECEIVER, "free = max(0, end - self._window // 2)", "free = 0"),
    (RECEIVER, "            self._freed_bytes += size\n", ""),
    # acknowledgement
    (RECEIVER, "            self.handled = last\n", "            self.handled = self.received\n"),
    (RECEIVER, "return self.handled > self._ack_told or", "return"),
    (SENDER, "        self._source.release(ack)\n", ""),
    (SENDER, "if ack >= self._source.next_seq:", "if ack > self._source.next_seq:"),
    (SENDER, "        if ack <= self.peer_acked:\n            return False\n", ""),
    # gaps
    (SENDER, "self._next_seq = omitted.last + 1", "self._next_seq = omitted.last + 2"),
    (RECEIVER, "        first = self.received + 1\n", "        first = gap.first\n"),
    (
        RECEIVER,
        "if gap.last < gap.first or gap.first > self.received + 1:",
        "if gap.last < gap.first:",
    ),
    # reconnecting
    (
        SENDER,
        "        self._current = None\n        self._offset = self._sent_bytes",
        "        self._offset = self._sent_bytes",
    ),
    (SENDER, "self._credit - self._sent_bytes)", "self._credit)"),
    (
        LINK,
        "        self._sender.stop()\n        self._control.clear()",
        "        self._control.clear()",
    ),
    (LINK, "received=self.received, epoch", "received=max(0, self.received - 1), epoch"),
    (
        LINK,
        "next_seq=max(welcome.received + 1, self._source.first_seq)",
        "next_seq=welcome.received + 1 + (welcome.received > 2)",
    ),
    (LINK, "            self._source.rebase(welcome.received + 1)\n", ""),
    (
        LINK,
        "if welcome.next < 1 or (self.received and welcome.next > self.received + 1):",
        "if welcome.next < 1:",
    ),
    (LINK, "        self._receive_ack(welcome.received)\n", ""),
    # time
    (LINK, "            self._pinged = True\n", ""),
    (
        LINK,
        "        self._now = self._heard_at = now\n        self._pinged = False\n        try:",
        "        self._now = now\n        try:",
    ),
    (
        LINK,
        "self._ack_due_at = self._now + self._config.ack_delay_s\n\n    # --- conn",
        "self._ack_due_at = None\n\n    # --- conn",
    ),
    (
        LINK,
        "elif self.state is not LinkState.ONLINE:\n            raise RemoteProtocolError(",
        "elif self.state is LinkState.CLOSED:\n            raise RemoteProtocolError(",
    ),
]
