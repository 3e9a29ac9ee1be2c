"""The official MCP SDK's token verifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("mcp", __name__):
    from mcp.server.auth.provider import AccessToken
    from pydantic import Field

from ._scopes import required
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken, start_serving_strictly, verification_of

__all__ = ["MCPTokenVerifier"]


class _AccessToken(AccessToken):
    """The SDK's class without the token in its `repr`; up to mcp 1.27 it has no caller's name."""

    token: str = Field(repr=False)
    subject: str | None = None
    claims: dict[str, Any] | None = None


class MCPTokenVerifier:
    """Identifies the caller for an MCP server: ``MCPServer(..., token_verifier=...)``.

    A session belongs to the token's issuer and subject: it survives a new token of the same
    caller, and no other caller can join it.

    It refuses bad tokens in observe mode too, as the SDK refuses a call without one before any
    verifier is asked. To observe, use `MCPAuthMiddleware` instead.
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
        start_serving_strictly(verifier, type(self).__name__)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the caller, or None if the token is refused. Never raises."""
        result = verification_of(self._verifier).check_token(token, self._scopes)
        if isinstance(result, Reason):
            return None
        return access_token(token, result, self._resource)


def access_token(token: str, caller: VerifiedToken, resource: str | None = None) -> AccessToken:
    """Return `caller` as the SDK knows callers; None for `resource` is the token's audience."""
    return _AccessToken(
        token=token,
        # A shared secret knows no OAuth clients: the subject is the client.
        client_id=caller.subject,
        subject=caller.subject,
        scopes=list(caller.scopes),
        expires_at=caller.expires_at,
        resource=resource or caller.audience,
        claims=caller.copy_claims(),
    )
