"""FastAPI: a dependency whose value is the verified caller."""

from __future__ import annotations

from collections.abc import Iterable

from manor_mcp_interceptors._optional import needs

with needs("fastapi", __name__):
    from fastapi import HTTPException, WebSocketException
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase

from starlette.requests import HTTPConnection

from ._scopes import required
from .reasons import Reason, challenge, http_status, message
from .verifier import TokenVerifier, VerifiedToken, verification_of

__all__ = ["MCPTokenDependency", "verify_mcp_token"]

_NO_SCOPES = SecurityScopes()
_POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1; before the handshake is complete, servers answer 403."""


class MCPTokenDependency(SecurityBase):
    """Lets in calls with a valid token: ``Depends(MCPTokenDependency(verifier))``.

    ``Security(verify_mcp_token, scopes=["search:write"])`` requires scopes too.
    To protect a router or a whole application, put it in their ``dependencies``. OpenAPI shows it
    as an HTTP bearer scheme.
    """

    def __init__(
        self, verifier: TokenVerifier | None = None, *, required_scopes: Iterable[str] = ()
    ) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment from the first
                call on. Nothing is read now, because `verify_mcp_token` is made at import.
            required_scopes: What the tokens must have in `scope`, beside the scopes that
                ``Security`` names.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self.model: HTTPBearer = HTTPBearer(
            bearerFormat="JWT", description="A token of a Manor service."
        )
        self.scheme_name = "MCPToken"
        self._verifier = verifier
        self._scopes = required(required_scopes)

    async def __call__(
        self,
        connection: HTTPConnection,
        security_scopes: SecurityScopes = _NO_SCOPES,
    ) -> VerifiedToken:
        """Return the caller of a request or WebSocket; FastAPI gives what ``Security`` names.

        Raises:
            HTTPException: 401 with ``WWW-Authenticate: Bearer``; 403 if a scope is missing.
            WebSocketException: The same for a WebSocket.
        """
        scopes = (*self._scopes, *security_scopes.scopes)
        verification = verification_of(self._verifier)
        values = connection.headers.getlist("authorization")
        result = verification.check_authorization(values, scopes)
        del values  # a traceback that prints locals prints no token
        if not isinstance(result, Reason):
            return result
        if connection.scope["type"] == "websocket":
            raise WebSocketException(_POLICY_VIOLATION, message(result))
        headers = {"WWW-Authenticate": challenge(result, verification.all_scopes(scopes))}
        raise HTTPException(http_status(result), message(result), headers)


verify_mcp_token: MCPTokenDependency = MCPTokenDependency()
"""The dependency that verifies by the environment: ``Depends(verify_mcp_token)``."""
