"""Hand-made faults of the machine for stock servers: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/protocol/test_stock_kernel.py"
FILE = "kernel_provider/clouditia/protocol/stock_kernel.py"

MUTANTS: list[tuple[str, str, str]] = [
    (FILE, "return self._is_online and not is_restarting and", "return self._is_online and"),
    (FILE, "return self._is_online and not is_restarting", "return not is_restarting"),
    (FILE, "elif self._connections > 1 and self._requests:", "elif self._connections > 2:"),
    (FILE, "            self._probe(_CUT)\n", ""),
    (FILE, "        self._is_online = False\n        self._probes.clear()\n", "        pass\n"),
    (
        FILE,
        "self._order(RESTART if is_restart else SHUTDOWN, message)",
        "self._order(SHUTDOWN, message)",
    ),
    (
        FILE,
        '        elif msg_type == "interrupt_request":',
        '        elif msg_type == "interrupt":',
    ),
    (FILE, 'if msg_type.endswith("_request"):', "if True:"),
    (FILE, "subshell if isinstance(subshell, str) else None", "None"),
    (FILE, "if self._news and msg_type == EXECUTE_REQUEST:", "if self._news:"),
    (
        FILE,
        '            self._news = ""\n        self._actions.append(Send',
        "        self._actions.append(Send",
    ),
    (FILE, "if verb in (INTERRUPT, RESTART):", "if True:"),
    (
        FILE,
        "            self._new_epoch()\n            self._fail(self._requests, _RESTARTED)\n",
        "            self._new_epoch()\n",
    ),
    (FILE, "            self._start_over()\n        self._answer", "        self._answer"),
    (FILE, "if error is None and order.verb == SHUTDOWN:", "if order.verb == RESTART:"),
    (
        FILE,
        "            self._settle(msg_id, probe)\n            return\n",
        "            self._settle(msg_id, probe)\n",
    ),
    (FILE, "            request.replied = True\n", ""),
    (FILE, "            request.idle_seen = True\n", ""),
    (FILE, "if request.replied and request.idle_seen:", "if request.replied:"),
    (
        FILE,
        "if probe is None:\n            self._actions.append(Deliver(message))\n\n    def _note",
        "if True:\n            self._actions.append(Deliver(message))\n\n    def _note",
    ),
    (FILE, "if not parent and state in (", "if state in ("),
    (FILE, 'if not session or session == parent.get("session"):', "if not session:"),
    (FILE, "if not session or session ==", "if session =="),
    (
        FILE,
        "            self._probe(_REPLACED)\n",
        "            self._fail(self._requests, _REPLACED)\n",
    ),
    (FILE, "                self._news = _REPLACED.sentence\n", "                pass\n"),
    (FILE, "                self._tell(_REPLACED.sentence, header)\n", "                pass\n"),
    (FILE, "                probe.cause = probe.cause and _REPLACED\n", "                pass\n"),
    (FILE, "            return  # it is what we asked for\n", "            pass\n"),
    (FILE, '        self._fail(self._requests, Cause("KernelDied", reason))\n', ""),
    (FILE, "        self._news = reason\n", ""),
    (
        FILE,
        '        self._process = ""\n        self._probes.clear()',
        "        self._probes.clear()",
    ),
    (FILE, "        self._is_online = False  # what", "        pass  # what"),
    (FILE, "if probe.replied and probe.idle_seen:", "if probe.replied:"),
    (FILE, "[each for each in self._requests if each in probe.msg_ids]", "self._requests"),
    (FILE, 'header["subshell_id"] = subshell', 'header["subshell"] = subshell'),
    (FILE, "and not self._is_settling", "and True"),
    (FILE, "return self._is_online and self._is_settling", "return self._is_settling"),
    (FILE, "        self._is_settling = True\n", ""),
    (FILE, "                self._is_settling = False\n", "                pass\n"),
    (FILE, "causes[0] if causes else _CUT", "_CUT"),
    (FILE, "if probe.cause is not None]", "]"),
    (FILE, "            if probe.cause is None:\n", "            if False:\n"),
]
