"""Thin I/O shells around :mod:`clouditia.protocol`: websockets, ZMQ sockets, TLS, reconnection."""
