"""A listening socket, so that a port that is taken is known before anything starts."""

from __future__ import annotations

import socket


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that listens.

    Args:
        port: 0 is any free port.
        host: A name or an address, IPv4 or IPv6.

    Raises:
        OSError: The host is unknown, or the port cannot be used.
    """
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # asyncio sets TCP_NODELAY only if the protocol is named. Without it, an answer of two packets
    # waits 40 ms for the client's delayed acknowledgement.
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections linger on the port for a minute; without this, no server can start there.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
