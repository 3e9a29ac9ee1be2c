"""The MCP server that every framework calls: of the official SDK, and it verifies tokens."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.support import SECRET

SLOW_SECONDS = 7
"""Longer than the 5 s after which a bare HTTP client and some frameworks give up."""


def application() -> Any:
    """Return the server, for streamable HTTP at ``/mcp``."""
    server = MCPServer(
        "frameworks",
        token_verifier=MCPTokenVerifier(TokenVerifier(Settings(secret=SECRET))),
        auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        log_level="CRITICAL",
    )

    @server.tool()
    def whoami() -> str:
        """Return the caller, and when its token was issued."""
        access = get_access_token()
        assert access is not None
        assert access.claims is not None
        return f"caller={access.subject} iat={access.claims['iat']}"

    @server.tool()
    async def slow() -> str:
        """Answer late."""
        await asyncio.sleep(SLOW_SECONDS)
        return f"waited={SLOW_SECONDS}"

    return server.streamable_http_app()
