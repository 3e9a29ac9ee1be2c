"""FastAPI: a dependency whose value is the verified caller."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("fastapi", __name__):
    from fastapi import HTTPException, WebSocketException
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security.base import SecurityBase

from starlette.requests import HTTPConnection

from .reasons import REFUSAL_MESSAGE, Reason, challenge
from .verifier import TokenVerifier, VerifiedToken, verification_of

__all__ = ["MCPTokenDependency", "verify_mcp_token"]

_UNAUTHORIZED = 401
_POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1; before the handshake is complete, servers answer 403."""


class MCPTokenDependency(SecurityBase):
    """Lets in calls with a valid token: ``Depends(MCPTokenDependency(verifier))``.

    To protect a router or a whole application, put it in their ``dependencies``. OpenAPI shows it
    as an HTTP bearer scheme.
    """

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment from the first
                call on. Nothing is read now, because `verify_mcp_token` is made at import.
        """
        self.model: HTTPBearer = HTTPBearer(
            bearerFormat="JWT", description="A token of a Manor service."
        )
        self.scheme_name = "MCPToken"
        self._verifier = verifier

    async def __call__(self, connection: HTTPConnection) -> VerifiedToken:
        """Return the caller of a request or WebSocket.

        Raises:
            HTTPException: 401 with ``WWW-Authenticate: Bearer``.
            WebSocketException: The same for a WebSocket.
        """
        result = verification_of(self._verifier).check_authorization(
            connection.headers.getlist("authorization")
        )
        if not isinstance(result, Reason):
            return result
        if connection.scope["type"] == "websocket":
            raise WebSocketException(_POLICY_VIOLATION, REFUSAL_MESSAGE)
        headers = {"WWW-Authenticate": challenge(result)}
        raise HTTPException(_UNAUTHORIZED, REFUSAL_MESSAGE, headers)


verify_mcp_token: MCPTokenDependency = MCPTokenDependency()
"""The dependency that verifies by the environment: ``Depends(verify_mcp_token)``."""
