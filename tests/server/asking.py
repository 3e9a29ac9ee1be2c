"""What a proxy does: ask ``ForwardAuth`` about a call, byte for byte as given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """The whole answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case, without ``date`` and ``server``."""
    body: bytes

    @property
    def caller(self) -> str | None:
        return self.headers.get("x-mcp-caller")


def ask(
    url: str,
    authorizations: Iterable[str] = (),
    *,
    method: str = "GET",
    path: str = "/auth",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Asked:
    """Ask once, with each of the ``Authorization`` values and the other headers."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.putrequest(method, path)
        for name, value in (*(("Authorization", each) for each in authorizations), *headers):
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        told = {name: value for name, value in names.items() if name not in ("date", "server")}
        return Asked(response.status, told, response.read())
    finally:
        connection.close()
