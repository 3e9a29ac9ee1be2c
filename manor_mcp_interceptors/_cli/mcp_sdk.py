"""The official MCP SDK, as 1.x and 2.x have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from mcp import ClientSession

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as MCPServer  # type: ignore[attr-defined, no-redef]

__all__ = ["HAS_SESSIONLESS", "MCPServer", "open_session"]

HAS_SESSIONLESS = hasattr(ClientSession, "discover")
"""Whether this SDK speaks the protocol of 2026-07-28, which has no sessions."""


@asynccontextmanager
async def open_session(
    url: str, http: Any, opening: str = "initialize"
) -> AsyncIterator[tuple[ClientSession, dict[str, Any]]]:
    """Connect to the server at `url`; give the session and the server's answer to `opening`.

    Args:
        url: The MCP endpoint.
        http: The client to send with.
        opening: The session's method: ``initialize``, or ``discover`` in the protocol that has no
            sessions.
    """
    async with (
        _connect(url, http) as (read, write, *_),  # mcp 1.x adds a function
        ClientSession(read, write) as session,
    ):
        answer = await getattr(session, opening)()
        yield session, answer.model_dump(mode="json", by_alias=True)


def _connect(url: str, http: Any) -> Any:
    try:
        from mcp.client.streamable_http import streamable_http_client
    except ImportError:  # mcp 1.23
        from mcp.client.streamable_http import (  # type: ignore[attr-defined]
            streamablehttp_client,
        )

        return streamablehttp_client(url, httpx_client_factory=lambda **_: nullcontext(http))
    return streamable_http_client(url, http_client=http)
