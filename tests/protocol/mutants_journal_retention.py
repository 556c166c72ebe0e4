"""Hand-made faults of retention: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_journal_retention.py"
FILE = "kernel_provider/clouditia/protocol/journal_retention.py"

MUTANTS: list[tuple[str, str, str]] = [
    # what goes
    (FILE, "Level.STREAM: (Tag.STREAM,),", "Level.STREAM: (Tag.STREAM, Tag.ERROR),"),
    (
        FILE,
        "(Tag.STREAM, Tag.DISPLAY, Tag.OTHER),",
        "(Tag.STREAM, Tag.DISPLAY, Tag.OTHER, Tag.IDLE),",
    ),
    (FILE, "return record.kind in (Kind.DOWN, Kind.UP) and", "return record.kind == Kind.DOWN and"),
    (FILE, "return record.kind in (Kind.DOWN, Kind.UP) and", "return"),
    (FILE, "+ reserve_bytes - self.max_bytes", "- self.max_bytes"),
    (
        FILE,
        "self.segment_bytes * 5 // 4, self.max_bytes // 2",
        "self.segment_bytes, self.max_bytes",
    ),
    # markers
    (
        FILE,
        "return other.first == mine.last + 1 and other.reason == mine.reason",
        "return other.reason == mine.reason",
    ),
    (
        FILE,
        "return other.first == mine.last + 1 and other.reason == mine.reason",
        "return other.first == mine.last + 1",
    ),
    (FILE, "messages=mine.messages + other.messages,", "messages=mine.messages + 1,"),
    (FILE, "size_bytes=mine.size_bytes + other.size_bytes,", "size_bytes=mine.size_bytes,"),
    (
        FILE,
        "        self._newest = record\n        self._omission = mine",
        "        self._omission = mine",
    ),
    (
        FILE,
        "            yield run.as_record()\n            run = None\n",
        "            yield run.as_record()\n",
    ),
    (FILE, "    if run is not None:\n        yield run.as_record()\n    for", "    for"),
    (
        FILE,
        "if run is not None:\n                yield run.as_record()\n            run = _Run",
        "run = _Run",
    ),
    # requests
    (FILE, "    for record in last_replyless.values():", "    for record in ():"),
    (FILE, "yield record._replace(tag=Tag.REQUEST)", "yield record"),
    # plans
    (FILE, "closed = segments[:-1]", "closed = segments"),
    (FILE, "if excess <= 0:", "if excess < 0:"),
    (FILE, "if excess <= 0:", "if excess <= 1:"),
    (FILE, "if gain > 0:", "if gain >= 0:"),
    (FILE, "                excess -= droppable\n", ""),
    (FILE, "                    excess -= gain\n", ""),
    (
        FILE,
        "    return droppable_bytes(segment, level) - already",
        "    return droppable_bytes(segment, level)",
    ),
    (FILE, "/ 1e9 > self.max_age_s:", "/ 1e9 >= self.max_age_s:"),
    (FILE, "now_ns - segment.newest_ns", "now_ns - segment.oldest_ns + 1"),
    (FILE, "for number in sorted(levels)]", "for number in levels]"),
    # rolling
    (FILE, "max(MIN_SEGMENT_BYTES, min(SEGMENT_BYTES, self.max_bytes // 8))", "SEGMENT_BYTES"),
    (
        FILE,
        "max(MIN_SEGMENT_BYTES, min(SEGMENT_BYTES, self.max_bytes // 8))",
        "min(SEGMENT_BYTES, self.max_bytes // 8)",
    ),
    (FILE, "segment.size_bytes >= self.segment_bytes", "segment.size_bytes > self.segment_bytes"),
    (FILE, " or age_s > MAX_SEGMENT_AGE_S", ""),
    (FILE, "        if not segment.size_bytes:\n            return False\n", ""),
]
