"""Hand-made faults of the journal's records and frames: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_journal.py"
FILE = "kernel_provider/clouditia/protocol/journal.py"

MUTANTS: list[tuple[str, str, str]] = [
    # checksums and lengths
    (FILE, "if zlib.crc32(payload) != payload_crc:", "if False:"),
    (
        FILE,
        "if zlib.crc32(head) != _CRC.unpack_from(view, offset + _HEADER.size)[0]:",
        "if False:",
    ),
    (
        FILE,
        "payload_crc = zlib.crc32(part, payload_crc)",
        "payload_crc = zlib.crc32(part)",
    ),
    (FILE, "if magic != MAGIC:", "if False:"),
    (
        FILE,
        "if length > available - HEADER_BYTES:",
        "if length > available:",
    ),
    (FILE, "if available < HEADER_BYTES:", "if available < _HEADER.size:"),
    (FILE, "if length > MAX_RECORD_BYTES:", "if length >= MAX_RECORD_BYTES:"),
    (FILE, "if length > MAX_RECORD_BYTES:", "if False:"),
    (FILE, "if version > VERSION:", "if version > VERSION + 1:"),
    (FILE, "if offset < 0 or available <= 0:", "if available < 0:"),
    # the reader
    (
        FILE,
        "            self.end += frame.length\n            yield frame",
        "            yield frame\n            self.end += frame.length + (frame.length > 60)",
    ),
    (
        FILE,
        "self.corruption = Corruption(self.end, exc.message)\n                return",
        "return",
    ),
    (
        FILE,
        "        self.end = 0\n        self.corruption = None\n        size",
        "        self.corruption = None\n        size",
    ),
    # what records hold
    (FILE, "if len(record.payload) == 1:", "if len(record.payload) <= 6:"),
    (FILE, "record.payload[6:])", "record.payload[7:])"),
    (FILE, 'decode_json(message_of(record).parent_header).get("msg_id") or ""', '""'),
    (
        FILE,
        "    if message.channel == CLOUDITIA:\n        return Tag.NOTICE\n",
        "",
    ),
    (FILE, "if message.channel in (SHELL, CONTROL):", "if message.channel == SHELL:"),
    (FILE, "return Tag.IDLE if is_idle else Tag.OTHER", "return Tag.IDLE"),
    (FILE, '    "update_display_data": Tag.DISPLAY,\n', ""),
    (
        FILE,
        "return channel in (SHELL, CONTROL) and msg_type",
        "return msg_type",
    ),
    (
        FILE,
        'separators=(",", ":")).encode("ascii")',
        'ensure_ascii=False).encode("utf-8", "replace")',
    ),
    (FILE, "or not isinstance(up_seq, int)", ""),
    (FILE, "last = next_seq + RECOVERY_SKIP - 1", "last = next_seq"),
    (FILE, "except (struct.error, ValueError) as exc:", "except struct.error as exc:"),
]
