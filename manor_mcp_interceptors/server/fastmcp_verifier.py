"""FastMCP's token verifier."""

from __future__ import annotations

from collections.abc import Iterable

from manor_mcp_interceptors._optional import needs

with needs("fastmcp", __name__):
    from fastmcp.server.auth import AccessToken
    from fastmcp.server.auth import TokenVerifier as FastMCPVerifier
    from pydantic import Field

from ._scopes import required
from .mcp_verifier import MCPTokenVerifier
from .verifier import TokenVerifier

__all__ = ["FastMCPTokenVerifier"]


class _AccessToken(AccessToken):
    """FastMCP's class without the token in its `repr`; up to mcp 1.27 it has no subject."""

    token: str = Field(repr=False)
    subject: str | None = None


class FastMCPTokenVerifier(FastMCPVerifier):
    """Identifies the caller for a FastMCP server: ``FastMCP(auth=FastMCPTokenVerifier())``.

    It does the same as `MCPTokenVerifier`, and has what else FastMCP requires of an ``auth``.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        resource: str | None = None,
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the same arguments as `MCPTokenVerifier`.

        As with FastMCP's other verifiers, a token without a required scope is answered with 401,
        also inside `MultiAuth`; FastMCP's ``require_scopes`` protects single tools.
        """
        scopes = required(required_scopes)
        super().__init__(required_scopes=list(scopes))
        self._verifier = MCPTokenVerifier(verifier, resource=resource, required_scopes=scopes)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the caller, or None if the token is refused. Never raises."""
        access = await self._verifier.verify_token(token)
        return None if access is None else _AccessToken(**access.model_dump())
