"""Hand-made faults of the limits on a kernel's life: (file, old text, new text)."""

from __future__ import annotations

TESTS = "tests/unit/host/test_lifespan.py"
FILE = "gateway_ext/clouditia_gateway/host/lifespan.py"

MUTANTS: list[tuple[str, str, str]] = [
    # what counts as use
    (FILE, "if is_busy or was_used or", "if was_used or"),
    (FILE, "if is_busy or was_used or", "if is_busy or"),
    (FILE, "or (clients and limit.counts_clients):", "or clients:"),
    (FILE, "or (clients and limit.counts_clients):", ":"),
    (
        FILE,
        "        was_used, self._was_used = self._was_used, False",
        "        was_used = self._was_used",
    ),
    (FILE, "        self._unused_s[limit.name] = 0.0\n", ""),
    # what time counts
    (FILE, "counts = self._is_reachable and is_reachable", "counts = is_reachable"),
    (FILE, "counts = self._is_reachable and is_reachable", "counts = self._is_reachable"),
    (FILE, "is_back = is_reachable and not self._is_reachable", "is_back = is_reachable"),
    (FILE, "is_back = is_reachable and not self._is_reachable", "is_back = False"),
    (
        FILE,
        "            if is_reachable:\n                said",
        "            if True:\n                said",
    ),
    (FILE, "self._unused_s[limit.name] += passed_s", "self._unused_s[limit.name] = passed_s"),
    (FILE, "min(unused_s, limit.seconds - left_s)", "limit.seconds - left_s"),
    (FILE, "min(unused_s, limit.seconds - left_s)", "unused_s"),
    (FILE, "return min(GRACE_S, self.seconds)", "return self.seconds"),
    # warnings
    (FILE, "return min(WARNED_BEFORE_S, self.seconds / 4)", "return self.seconds / 4"),
    (FILE, "return min(WARNED_BEFORE_S, self.seconds / 4)", "return WARNED_BEFORE_S"),
    (FILE, "if left_s > limit.warned_before_s:", "if left_s > 0:"),
    (FILE, "        self._warned.add(limit.name)\n", ""),
    (FILE, "        self._leave(limit, limit.warned_before_s)\n", ""),
    (FILE, "return [Overdue(limit)] if left_s <= 0 else []", "return [Overdue(limit)]"),
    (FILE, "return [Overdue(limit)] if left_s <= 0 else []", "return []"),
    (FILE, "        self._warned.discard(limit.name)\n", ""),
    (FILE, "        return [Kept()]", "        return []"),
    # whose limits
    (
        FILE,
        "own_ttl_s or self.detached_ttl_s or self.max_detached_ttl_s",
        "own_ttl_s or self.detached_ttl_s",
    ),
    (
        FILE,
        "own_ttl_s or self.detached_ttl_s or self.max_detached_ttl_s",
        "self.detached_ttl_s or own_ttl_s",
    ),
    (FILE, "min(ttl_s, self.max_detached_ttl_s or ttl_s)", "ttl_s"),
    (FILE, "not self.cull_connected", "True"),
    (
        FILE,
        "{name: self._unused_s.get(name, 0.0) for name in names}",
        "{name: 0.0 for name in names}",
    ),
    (FILE, "        self._warned &= names\n", ""),
    (FILE, "is_number and value > 0", "is_number"),
    (FILE, "and not isinstance(value, bool)", ""),
]
