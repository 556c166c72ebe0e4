"""Hand-made faults of reading damaged segments: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_journal_salvage.py"
FILE = "kernel_provider/clouditia/protocol/journal_salvage.py"

MUTANTS: list[tuple[str, str, str]] = [
    (
        FILE,
        "            if end >= self._view.nbytes:\n                return None",
        "            pass",
    ),
    (FILE, "            if self._is_good(end):\n                return end\n", ""),
    (FILE, "            if self._is_good(end):\n", ""),
    (FILE, "        if end is not None:", "        if False:"),
    (FILE, "if zlib.crc32(header[:-4]) != header_crc:", "if False:"),
    (FILE, "if header.nbytes < HEADER_BYTES:", "if False:"),
    (FILE, "            if self._is_good(offset + place):\n", "            if place:\n"),
    (FILE, "place = rest.find(MAGIC, place + 1)", "place = -1"),
    (FILE, "place = rest.find(MAGIC, 1)", "place = rest.find(MAGIC)"),
    (FILE, "self.tail = Corruption(offset, exc.message)\n", "pass\n"),
    (FILE, "Damage(offset, following - offset, exc", "Damage(offset, following, exc"),
    (FILE, "offset = self.end = offset + frame.length", "offset += frame.length"),
    (FILE, "        self.damages = []\n        self.tail = None\n        offset", "        offset"),
    (FILE, "record.seq > expected", "record.seq > expected + 3"),
    (FILE, "Omission(expected, record.seq - 1,", "Omission(expected, record.seq,"),
    (FILE, "return omission_of(record).last + 1", "return record.seq + 1"),
    (FILE, "if record.kind == Kind.DOWN else record.seq", "if True else record.seq"),
]  # fmt: skip
