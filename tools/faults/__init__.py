"""The same faults for Clouditia and for what people use today: ``tools/fault_table.py``."""
