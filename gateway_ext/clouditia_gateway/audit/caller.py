"""Whose request is being served, for whoever records it."""

from __future__ import annotations

from contextvars import ContextVar

#: The address that the request came from; empty outside of requests.
address: ContextVar[str] = ContextVar("clouditia_caller_address", default="")
