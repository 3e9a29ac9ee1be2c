"""The official MCP SDK's token verifier."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("mcp", __name__):
    from mcp.server.auth.provider import AccessToken

from ._door import judge_of
from .reasons import Reason
from .verifier import TokenVerifier

__all__ = ["MCPTokenVerifier"]


class MCPTokenVerifier:
    """Tells an MCP server whose call this is: ``MCPServer(..., token_verifier=...)``.

    A session belongs to the token's issuer and subject, so it survives a new token of the same
    caller, and no other caller can join it.
    """

    def __init__(
        self, verifier: TokenVerifier | None = None, *, resource: str | None = None
    ) -> None:
        """Take what verifies the tokens.

        Args:
            verifier: None is one from the environment, made at the first call.
            resource: The `resource_server_url` of the server's settings, needed where these say
                ``validate_token_resource=True``; None reports the token's audience.
        """
        self._verifier = verifier
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who calls, or None where the token is refused. Never raises."""
        verdict = judge_of(self._verifier).judge(token)
        if isinstance(verdict, Reason):
            return None
        scope = verdict.claims.get("scope")
        return AccessToken(
            token=token,
            # A shared secret knows no OAuth clients: the subject is the client.
            client_id=verdict.subject,
            subject=verdict.subject,
            scopes=scope.split() if isinstance(scope, str) else [],
            expires_at=verdict.expires_at,
            resource=self._resource or verdict.audience,
            claims=verdict.copy_claims(),
        )
