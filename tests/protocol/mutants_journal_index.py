"""Hand-made faults of the journal's index: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_journal_index.py"
FILE = "kernel_provider/clouditia/protocol/journal_index.py"

MUTANTS: list[tuple[str, str, str]] = [
    # one segment
    (FILE, "and seq == self._span_last[-1] + 1:", "and seq >= self._span_last[-1]:"),
    (FILE, "and not self._span_ref[-1] & 1", ""),
    (FILE, "if last < first or first <= self.last_seq:", "if first <= self.last_seq:"),
    (FILE, "if last < first or first <= self.last_seq:", "if last < first:"),
    (FILE, "append(offset << 32 | length)", "append(offset << 16 | length)"),
    (FILE, "if span < 0 or seq > self._span_last[span]:", "if span < 0:"),
    (FILE, "if span < 0 or seq > self._span_last[span]:", "if seq > self._span_last[span]:"),
    (FILE, "(ref >> 1) + seq - self._span_first[span]", "(ref >> 1)"),
    (FILE, "row = len(self._omitted) // 3", "row = 0"),
    (FILE, "else Tag.NOTICE\n", "else Tag.OTHER\n"),
    (
        FILE,
        "self.newest_ns = max(self.newest_ns, record.time_ns)",
        "self.newest_ns = record.time_ns",
    ),
    (FILE, "            self.oldest_ns = record.time_ns\n", ""),
    (FILE, "        self.size_bytes += length\n", ""),
    (
        FILE,
        "bisect_right(self._span_first, seq)\n        return",
        "bisect_right(self._span_first, seq) - 1\n        return",
    ),
    # the whole
    (FILE, "and first < self.next_seq:", "and first + 1 < self.next_seq:"),
    (FILE, "if record.kind in (Kind.DOWN, Kind.OMITTED) and", "if record.kind == Kind.DOWN and"),
    (FILE, "self.next_seq = max(self.next_seq, record.seq)", "pass"),
    (FILE, "self.epoch = max(self.epoch, record.epoch)", "self.epoch = self.epoch or record.epoch"),
    (FILE, "if record.tag in (Tag.REPLY, Tag.IDLE):", "if record.tag == Tag.REPLY:"),
    (FILE, "self.next_seq = omission_of(record).last + 1", "self.next_seq = record.seq + 1"),
    (FILE, "            self.requests.add(record)\n", "            pass\n"),
    (FILE, "            self.exit_facts = None\n        elif", "            pass\n        elif"),
    (
        FILE,
        "if rewritten.number not in self._numbers[:-1]:",
        "if rewritten.number not in self._numbers:",
    ),
    (FILE, "        self._segments[rewritten.number] = rewritten\n", ""),
    (FILE, "if self._numbers and number < self._numbers[-1]:", "if False:"),
    (FILE, "if self._firsts and first_seq < self._firsts[-1]:", "if False:"),
    (
        FILE,
        "if self._firsts and first_seq < self._firsts[-1]:",
        "if self._firsts and first_seq <= self._firsts[-1]:",
    ),
    # finding
    (FILE, "        while found.last + 1 < self.next_seq:", "        while False:"),
    (FILE, "if not 1 <= seq < self.next_seq:", "if not 0 <= seq <= self.next_seq:"),
    (FILE, "return omission_from(found, seq)", "return found"),
    (FILE, "self._next_known(seq, max(place, 0)) - 1", "self._next_known(seq, place + 1) - 1"),
    (
        FILE,
        "        return self.next_seq\n\n    @property\n    def first_seq",
        "        return self.next_seq + 1\n\n    @property\n    def first_seq",
    ),
    (FILE, "return 1 if isinstance(found, Location) else found.last + 1", "return 1"),
    (FILE, "left if omission.messages == whole else omission.messages", "omission.messages"),
    (FILE, "omission.size_bytes * left // whole", "omission.size_bytes"),
    (FILE, "one.messages + other.messages", "one.messages"),
    (FILE, "max(one.reason, other.reason)", "one.reason"),
    (FILE, "or [self.next_seq])", "or [1])"),
]
