"""Processes that are killed while they write, and what is found afterwards."""
