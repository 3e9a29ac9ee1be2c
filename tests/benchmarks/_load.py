"""Send requests over open connections, some at a time, with next to no work between them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from ._harness import Run

_SECONDS: Final = 10.0


@contextmanager
def load(address: str, headers: Mapping[str, str], at_once: int) -> Iterator[Run]:
    """Yield what sends so many requests, and checks that each is answered with 200.

    Args:
        address: ``HOST:PORT``.
        headers: Those of each request.
        at_once: How many are sent before the first answer is read, each over its own connection.
    """
    lines = [f"{name}: {value}" for name, value in {"Host": address, **headers}.items()]
    request = "\r\n".join(["GET /mcp HTTP/1.1", *lines, "", ""]).encode()
    with ExitStack() as stack:
        connections = [_Connection(address) for _ in range(at_once)]
        for connection in connections:
            stack.callback(connection.close)

        def run(count: int) -> None:
            for done in range(0, count, at_once):
                using = connections[: count - done]
                for connection in using:
                    connection.send(request)
                for connection in using:
                    connection.receive()

        yield run


class _Connection:
    """One connection, opened again if the server closes it after an answer."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._address = host, int(port)
        self._socket = self._open()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"another answer than 200: {head[:40]!r}")
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        if b"connection: close" in head:  # nginx does so after 1,000 requests
            self.close()
            self._socket = self._open()

    def close(self) -> None:
        self._socket.close()

    def _open(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _more(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise RuntimeError("a connection was closed without an answer")
        return received
