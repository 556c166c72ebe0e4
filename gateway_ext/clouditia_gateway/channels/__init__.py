"""Websockets of the gateway: kernel hosts that dial in, and the clients that are joined to them."""
