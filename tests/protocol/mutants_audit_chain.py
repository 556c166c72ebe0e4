"""Hand-made faults of the audit log's chain: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_audit_chain.py"
FILE = "kernel_provider/clouditia/protocol/audit_chain.py"
RECORD = "kernel_provider/clouditia/protocol/audit_record.py"

FOLLOWS = "if record.number == expected and record.prev == self._head.sha256:"
VOUCHED = "self._is_vouched = self._is_vouched or last == self._before_first"
GENUINE = "is_genuine = seen.continues or self._is_kept(Head(record.number, digest(seen.raw)))"

MUTANTS: list[tuple[str, str, str]] = [
    # writing
    (FILE, 'record["prev"] = head.sha256', 'record["prev"] = GENESIS'),
    (
        FILE,
        "return line, Head(head.number + 1, digest(line))",
        "return line, Head(head.number + 1, head.sha256)",
    ),
    (FILE, "if len(text) <= MAX_TEXT_CHARS", "if len(text) < MAX_TEXT_CHARS"),
    (FILE, "if len(text) <= MAX_TEXT_CHARS", "if True"),
    # the head
    (FILE, 'b"%020d %s\\n"', 'b"%d %s\\n"'),
    (FILE, "is_whole = len(raw) == _HEAD_BYTES and", "is_whole ="),
    (FILE, "if not is_whole or not number.isdigit():", "if not is_whole:"),
    # the walk
    (FILE, FOLLOWS, "if record.number == expected:"),
    (FILE, FOLLOWS, "if record.prev == self._head.sha256:"),
    (FILE, "if record.number < expected:", "if record.number <= expected:"),
    (FILE, "is_genuine = seen.continues or", "is_genuine ="),
    (FILE, GENUINE, "is_genuine = seen.continues"),
    (FILE, "            and after.number == self._head.number + 1\n", ""),
    (FILE, "            and after.prev == self._head.sha256\n", ""),
    (FILE, '            and after.fields.get("sha256") == digest(seen.raw)\n', ""),
    (FILE, "            and after.event == TORN\n", ""),
    (FILE, "            self._torn += 1\n", ""),
    # the kept head
    (FILE, "if number == kept.number and self._head != kept:", "if False:"),
    (FILE, "if number > kept.number + 1:", "if number > kept.number + 2:"),
    (FILE, "if number > kept.number + 1:", "if number > kept.number:"),
    (FILE, "if beginning is None and kept is not None and kept.number > number:", "if False:"),
    (FILE, "if seen.after is not None and seen.after.number == number:", "if False:"),
    # removed parts and lost events
    (FILE, "if record.number > 1:", "if False:"),
    (FILE, "if self._before_first == START or self._is_vouched:", "if True:"),
    (
        FILE,
        "if self._before_first == START or self._is_vouched:",
        "if self._before_first == START:",
    ),
    (FILE, VOUCHED, "self._is_vouched = True"),
    (FILE, VOUCHED, "self._is_vouched = last == self._before_first"),
    (FILE, "return self._beginning_fault() or fault", "return fault"),
    (FILE, "            self._lost += _count", "            self._lost = _count"),
    # records
    (RECORD, "if len(line) > MAX_LINE_BYTES:", "if False:"),
    (RECORD, "if len(line) > MAX_LINE_BYTES:", "if len(line) >= MAX_LINE_BYTES:"),
    (RECORD, "except (ValueError, RecursionError):", "except ValueError:"),
    (RECORD, " or number < 1:", ":"),
    (RECORD, "or isinstance(number, bool) ", ""),
    (RECORD, "isinstance(at, str) and ", ""),
    (RECORD, "isinstance(event, str) and ", ""),
    (RECORD, " and isinstance(prev, str)", ""),
]
