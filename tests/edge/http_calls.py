"""Send a request byte by byte, as no HTTP library would."""

from __future__ import annotations

import socket
from collections.abc import Iterable

SECONDS = 10.0


def send(address: str, headers: Iterable[tuple[str, str]], path: str = "/mcp") -> int:
    """Return the status of a GET request; 0 if the proxy closed the connection without one."""
    host, port = address.split(":")
    lines = [f"GET {path} HTTP/1.1"]
    names = [name for name, _ in headers]
    if "Host" not in names:
        lines.append(f"Host: {address}")
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


def send_one_after_another(address: str, first: bytes, last: bytes) -> bytes:
    """Return all that is answered to two requests on one connection, which `last` ends."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(first)
        answer = connection.recv(65_536)
        try:
            connection.sendall(last)
            return answer + connection.makefile("rb").read()
        except ConnectionError:  # the proxy has closed the connection after the first
            return answer
