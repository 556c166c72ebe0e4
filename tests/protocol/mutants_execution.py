"""Hand-made faults of the execution machine and its outputs: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_execution.py"
_DIR = "kernel_provider/clouditia/protocol/"
FILE, OUTPUTS = _DIR + "execution.py", _DIR + "execution_outputs.py"

MUTANTS: list[tuple[str, str, str]] = [
    # states
    (
        FILE,
        "state = ExecutionState.DONE if self._is_idle else ExecutionState.REPLIED",
        "state = ExecutionState.DONE",
    ),
    (FILE, "ExecutionState.DONE if replied else ExecutionState.IDLE", "ExecutionState.DONE"),
    (
        FILE,
        "ExecutionState.DONE if self._is_idle else ExecutionState.REPLIED",
        "ExecutionState.REPLIED",
    ),
    (
        FILE,
        'if content.get("execution_state") != "idle":',
        'if content.get("execution_state") == "busy":',
    ),
    (FILE, "        self._is_idle = True\n", ""),
    (FILE, "if self.has_ended or state is self.state:", "if state is self.state:"),
    (FILE, "if self.has_ended or state is self.state:", "if self.has_ended:"),
    (FILE, "if self.reply is not None or self.has_ended:", "if self.has_ended:"),
    (FILE, "if self.reply is not None or self.has_ended:", "if self.reply is not None:"),
    (FILE, "        if self.state is ExecutionState.SENT:\n", "        if True:\n"),
    (
        FILE,
        '.get("msg_id") != self.msg_id:\n            return []\n        if message',
        '.get("msg_id") is None:\n            return []\n        if message',
    ),
    (FILE, "if message.channel in (SHELL, CONTROL):", "if message.channel == SHELL:"),
    (FILE, ' if msg_type.endswith("_reply") else []', ""),
    # death
    (
        FILE,
        "return self.epoch is None or not isinstance(epoch, int) or epoch >= self.epoch",
        "return True",
    ),
    (FILE, "or epoch >= self.epoch", "or epoch == self.epoch"),
    (FILE, '            "kernel_ended": self._on_kernel_ended,\n', ""),
    (
        FILE,
        "        if self.has_ended:\n            return []\n        self._lost = error",
        "        self._lost = error",
    ),
    (FILE, "splitlines()[-1:]", "splitlines()[:1]"),
    # gaps
    (FILE, "        self._gaps.append((first, last))\n", ""),
    (FILE, "gap_first <= last <= gap_last", "gap_first <= last"),
    (FILE, "gap_first <= last <= gap_last", "last <= gap_last"),
    (
        FILE,
        "return [GapNoted(first, last), *self._lose_if_answer_is_gone()]",
        "return [GapNoted(first, last)]",
    ),
    (
        FILE,
        "return [AlreadyRan(first, last), *self._lose_if_answer_is_gone()]",
        "return [AlreadyRan(first, last)]",
    ),
    (FILE, 'if content.get("msg_id") != self.msg_id or not', "if not"),
    (
        FILE,
        "        if self.has_ended:\n            return []\n        self._gaps",
        "        self._gaps",
    ),
    # results
    (FILE, 'status in ("aborted", "abort")', 'status == "aborted"'),
    (
        FILE,
        'return "ok" if status == "ok" else "error"',
        'return "error" if status == "error" else "ok"',
    ),
    (
        FILE,
        "        self.reply = content\n        self._count(content)\n",
        "        self.reply = content\n",
    ),
    (FILE, '        output["execution_count"] = self.execution_count\n', ""),
    (
        FILE,
        "if isinstance(lines, list) else []\n        return ExecutionError(",
        "if lines else []\n        return ExecutionError(",
    ),
    # outputs
    (
        FILE,
        "        if self._keeps_outputs:\n            self._outputs.print",
        "        if True:\n            self._outputs.print",
    ),
    (
        FILE,
        "        if self._keeps_outputs:\n            self._outputs.append",
        "        if True:\n            self._outputs.append",
    ),
    (FILE, 'bool(content.get("wait", False))', 'bool(content.get("wait", True))'),
    (FILE, "        if display_id is None:\n            return []\n", ""),
    (FILE, "displays if displays is not None else DisplayRegistry()", "DisplayRegistry()"),
    (OUTPUTS, 'or not last.pieces or last.fields["name"] != name:', "or not last.pieces:"),
    (
        OUTPUTS,
        'or not last.pieces or last.fields["name"] != name:',
        'or last.fields.get("name") != name or len(last.pieces) > 1:',
    ),
    (
        OUTPUTS,
        'self.pieces = ["".join(self.pieces)]\n            self.fields["text"] = self.pieces[0]',
        'self.fields["text"] = "".join(self.pieces)\n            self.pieces = self.pieces[:1]',
    ),
    (
        OUTPUTS,
        '"""Append text of stdout or stderr."""\n        self._clear_if_due()\n',
        '"""Append text of stdout or stderr."""\n',
    ),
    (
        OUTPUTS,
        "        self._clear_if_due()\n        entry = OutputEntry(output)",
        "        entry = OutputEntry(output)",
    ),
    (
        OUTPUTS,
        "        self._clears_next = wait\n",
        "        self._clears_next = self._clears_next or wait\n",
    ),
    (OUTPUTS, "        if not wait:\n", "        if True:\n"),
    (OUTPUTS, "            self._displays.discard(self._entries)\n", ""),
    (
        OUTPUTS,
        '            self._displays.update(display_id, output["data"], output["metadata"])\n',
        "",
    ),
    (OUTPUTS, '            entry.fields["metadata"] = metadata\n', ""),
    (OUTPUTS, "if id(entry) not in gone]", "if id(entry) in gone]"),
]
