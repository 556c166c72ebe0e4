"""Commands that this package adds to ``clouditia``, found through ``clouditia.commands``."""
