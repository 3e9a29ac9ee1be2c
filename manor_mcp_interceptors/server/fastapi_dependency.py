"""FastAPI: a dependency whose value is the verified caller."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("fastapi", __name__):
    from fastapi import HTTPException, WebSocketException
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security.base import SecurityBase

from starlette.requests import HTTPConnection

from ._http_admission import admit_http
from .reasons import REFUSAL_MESSAGE, Reason, challenge
from .verifier import TokenVerifier, VerifiedToken, verification_of

__all__ = ["MCPAdmissionDependency", "MCPTokenDependency", "admit_mcp_token", "verify_mcp_token"]

_SCHEME_NAME = "MCPToken"
_UNAUTHORIZED = 401
_POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1; before the handshake is complete, servers answer 403."""


class MCPTokenDependency(SecurityBase):
    """Lets in calls with a valid token: ``Depends(MCPTokenDependency(verifier))``.

    It is strict, whatever ``MCP_AUTH_ENFORCEMENT`` says, so that its value is always a caller. A
    service that begins to verify uses `MCPAdmissionDependency`.

    To protect a router or a whole application, put it in their ``dependencies``. OpenAPI shows it
    as an HTTP bearer scheme.
    """

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment from the first
                call on. Nothing is read now, because `verify_mcp_token` is made at import.
        """
        self.model: HTTPBearer = _bearer_scheme()
        self.scheme_name = _SCHEME_NAME
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
        if isinstance(result, Reason):
            raise _refusal(connection, result)
        return result


class MCPAdmissionDependency(SecurityBase):
    """Lets in calls as ``MCP_AUTH_ENFORCEMENT`` says, for the dependencies of a router or app.

    In observe mode a call without a valid token is let through, counted and logged, and the value
    is None: nobody was verified. Otherwise it is the same as `MCPTokenDependency`.
    """

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        """Take the same arguments as `MCPTokenDependency`."""
        self.model: HTTPBearer = _bearer_scheme()
        self.scheme_name = _SCHEME_NAME
        self._verifier = verifier
        self._has_started = False

    async def __call__(self, connection: HTTPConnection) -> VerifiedToken | None:
        """Return the caller of a request or WebSocket, or None: observe mode lets it through.

        Raises:
            HTTPException: 401 with ``WWW-Authenticate: Bearer``.
            WebSocketException: The same for a WebSocket.
        """
        if not self._has_started:  # FastAPI calls no dependency before the first request
            self._has_started = True
            await verification_of(self._verifier).is_enforced_async()
        result = await admit_http(
            self._verifier, connection.headers.getlist("authorization"), connection.scope
        )
        if isinstance(result, Reason):
            raise _refusal(connection, result)
        return result


def _bearer_scheme() -> HTTPBearer:
    return HTTPBearer(bearerFormat="JWT", description="A token of a Manor service.")


def _refusal(connection: HTTPConnection, reason: Reason) -> Exception:
    if connection.scope["type"] == "websocket":
        return WebSocketException(_POLICY_VIOLATION, REFUSAL_MESSAGE)
    return HTTPException(_UNAUTHORIZED, REFUSAL_MESSAGE, {"WWW-Authenticate": challenge(reason)})


verify_mcp_token: MCPTokenDependency = MCPTokenDependency()
"""The strict dependency by the environment: ``Depends(verify_mcp_token)``."""
admit_mcp_token: MCPAdmissionDependency = MCPAdmissionDependency()
"""The one that follows ``MCP_AUTH_ENFORCEMENT``: ``dependencies=[Depends(admit_mcp_token)]``."""
