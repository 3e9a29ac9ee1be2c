"""One HTTP call with the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from manor_mcp_interceptors.testing import AuthServer


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    json: Any


def get(
    server: AuthServer,
    token: str | None = None,
    *,
    method: str = "GET",
    path: str = "/",
    body: bytes | Iterable[bytes] | None = None,
) -> Answer:
    """Call `server` with `token`, on a new connection."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, json.loads(text) if text else None)
    finally:
        connection.close()
