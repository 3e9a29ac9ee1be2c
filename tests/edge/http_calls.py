"""Send a request byte by byte, as no HTTP library would."""

from __future__ import annotations

import socket
from collections.abc import Iterable

SECONDS = 10.0


def send(address: str, headers: Iterable[tuple[str, str]], path: str = "/mcp") -> int:
    """Return the status of a GET request; 0 if the proxy closed the connection without one."""
    host, port = address.split(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {address}"]
    names = [name for name, _ in headers]
    lines += [f"{name}: {value}" for name, value in headers]
    if "Connection" not in names:
        lines.append("Connection: close")
    request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        try:
            connection.sendall(request)
            answer = connection.makefile("rb").readline()
        except (ConnectionError, TimeoutError):
            return 0
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0
