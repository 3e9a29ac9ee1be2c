"""The auth object and the HTTP client of the installed MCP SDK: httpx for 1.x, httpx2 for 2.x."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


def mcp_auth(**options: Any) -> Any:
    """Return the auth object of this package that the installed MCP SDK takes."""
    import manor_mcp_interceptors

    name = "HttpxAuth" if version("mcp").startswith("1.") else "Httpx2Auth"
    return getattr(manor_mcp_interceptors, name)(**options)


def mcp_http_client(
    headers: dict[str, str] | None = None, timeout: Any = None, auth: Any = None, **options: Any
) -> Any:
    """Return an `AsyncClient` of that SDK's library, with the SDK's own time-outs."""
    auth = auth or mcp_auth(**options)
    library = auth.library
    timeout = timeout or library.Timeout(30.0, read=300.0)
    return library.AsyncClient(headers=headers, timeout=timeout, auth=auth)
