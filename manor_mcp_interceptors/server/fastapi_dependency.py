"""FastAPI: a dependency whose value is the verified caller."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("fastapi", __name__):
    from fastapi import HTTPException, WebSocketException
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security.base import SecurityBase

from starlette.requests import HTTPConnection

from ._door import PHRASE, challenge, judge_of
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken

__all__ = ["MCPTokenDependency", "verify_mcp_token"]

_UNAUTHORIZED = 401
_POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1; before the handshake is done, servers answer 403."""


class MCPTokenDependency(SecurityBase):
    """Lets a call in that carries a valid token: ``Depends(MCPTokenDependency(verifier))``.

    For a router or an application as a whole, put it in their ``dependencies``. OpenAPI shows it
    as an HTTP bearer scheme.
    """

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        """Take what verifies the tokens; None is one from the environment, made at need."""
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
        verdict = judge_of(self._verifier).judge_authorization(
            connection.headers.getlist("authorization")
        )
        if not isinstance(verdict, Reason):
            return verdict
        if connection.scope["type"] == "websocket":
            raise WebSocketException(_POLICY_VIOLATION, PHRASE)
        raise HTTPException(_UNAUTHORIZED, PHRASE, {"WWW-Authenticate": challenge(verdict)})


verify_mcp_token: MCPTokenDependency = MCPTokenDependency()
"""The dependency that verifies by the environment: ``Depends(verify_mcp_token)``."""
