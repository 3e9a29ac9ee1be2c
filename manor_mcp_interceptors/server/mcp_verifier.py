"""The official MCP SDK's token verifier."""

from __future__ import annotations

from collections.abc import Iterable

from manor_mcp_interceptors._optional import needs

with needs("mcp", __name__):
    from mcp.server.auth.provider import AccessToken
    from pydantic import Field

from ._scopes import required
from .reasons import Reason
from .verifier import TokenVerifier, verification_of

__all__ = ["MCPTokenVerifier"]


class _AccessToken(AccessToken):
    """The SDK's class without the token in its `repr`."""

    token: str = Field(repr=False)


class MCPTokenVerifier:
    """Identifies the caller for an MCP server: ``MCPServer(..., token_verifier=...)``.

    A session belongs to the token's issuer and subject: it survives a new token of the same
    caller, and no other caller can join it.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        resource: str | None = None,
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment. If that has no
                usable secret, a warning is logged now.
            resource: The `resource_server_url` of the server's settings, required if these have
                ``validate_token_resource=True``; None reports the token's audience.
            required_scopes: What the tokens must have in `scope`, counted and logged here. The
                SDK knows one refusal of a verifier: 401. For 403, give the scopes to its
                ``AuthSettings(required_scopes=...)`` instead.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self._scopes = required(required_scopes)
        self._verifier = verifier
        self._resource = resource
        verification_of(verifier)  # a server without a secret logs it now, before its first call

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the caller, or None if the token is refused. Never raises."""
        result = verification_of(self._verifier).check_token(token, self._scopes)
        if isinstance(result, Reason):
            return None
        return _AccessToken(
            token=token,
            # A shared secret knows no OAuth clients: the subject is the client.
            client_id=result.subject,
            subject=result.subject,
            scopes=list(result.scopes),
            expires_at=result.expires_at,
            resource=self._resource or result.audience,
            claims=result.copy_claims(),
        )
