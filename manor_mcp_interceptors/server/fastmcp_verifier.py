"""FastMCP's token verifier."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("fastmcp", __name__, install="fastmcp"):
    from fastmcp.server.auth import AccessToken
    from fastmcp.server.auth import TokenVerifier as FastMCPVerifier

from .mcp_verifier import MCPTokenVerifier
from .verifier import TokenVerifier

__all__ = ["FastMCPTokenVerifier"]


class FastMCPTokenVerifier(FastMCPVerifier):
    """Tells a FastMCP server whose call this is: ``FastMCP(auth=FastMCPTokenVerifier())``.

    The same as `MCPTokenVerifier`, which lacks what FastMCP asks of an ``auth`` beside it.
    """

    def __init__(
        self, verifier: TokenVerifier | None = None, *, resource: str | None = None
    ) -> None:
        """Take what `MCPTokenVerifier` takes."""
        super().__init__()
        self._verifier = MCPTokenVerifier(verifier, resource=resource)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who calls, or None where the token is refused. Never raises."""
        access = await self._verifier.verify_token(token)
        return None if access is None else AccessToken(**access.model_dump())
