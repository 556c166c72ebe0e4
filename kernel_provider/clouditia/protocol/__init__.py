"""The sans-I/O core: state machines and codecs, standard library only, Python 3.8 grammar.

Nothing here opens a socket, starts a thread or reads a clock; time and ids are arguments. The same
machines serve the bridge, the SDK, the gateway and the kernel host. See docs/protocol.md.
"""
