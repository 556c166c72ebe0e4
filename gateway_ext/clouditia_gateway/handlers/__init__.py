"""HTTP handlers: they parse, call the registry, and print; no decisions are made here."""
