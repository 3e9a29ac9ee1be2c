"""FastAPI: a dependency whose value is the verified caller."""

# No postponed annotations: before 0.124, FastAPI does not resolve those of a callable object.

from collections.abc import Iterable

from manor_mcp_interceptors._optional import needs

with needs("fastapi", __name__):
    from fastapi import HTTPException, WebSocketException
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase

from starlette.requests import HTTPConnection

from ._http_admission import admit_http
from ._scopes import required
from .reasons import POLICY_VIOLATION, Reason, challenge, http_status, message
from .verifier import TokenVerifier, VerifiedToken, verification_of

__all__ = ["MCPAdmissionDependency", "MCPTokenDependency", "admit_mcp_token", "verify_mcp_token"]

_SCHEME_NAME = "MCPToken"
_NO_SCOPES = SecurityScopes()


class MCPTokenDependency(SecurityBase):
    """Lets in calls with a valid token: ``Depends(MCPTokenDependency(verifier))``.

    ``Security(verify_mcp_token, scopes=["search:write"])`` requires scopes too. It is strict,
    whatever ``MCP_AUTH_ENFORCEMENT`` says, so that its value is always a caller. A service that
    begins to verify uses `MCPAdmissionDependency`.

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
        self.model: HTTPBearer = _bearer_scheme()
        self.scheme_name = _SCHEME_NAME
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
        if isinstance(result, Reason):
            raise _refusal(connection, result, verification.all_scopes(scopes))
        return result


class MCPAdmissionDependency(SecurityBase):
    """Lets in calls as ``MCP_AUTH_ENFORCEMENT`` says, for the dependencies of a router or app.

    In observe mode a call without a valid token is let through, counted and logged, and the value
    is None: nobody was verified. Otherwise it is the same as `MCPTokenDependency`.
    """

    def __init__(
        self, verifier: TokenVerifier | None = None, *, required_scopes: Iterable[str] = ()
    ) -> None:
        """Take the same arguments as `MCPTokenDependency`."""
        self.model: HTTPBearer = _bearer_scheme()
        self.scheme_name = _SCHEME_NAME
        self._verifier = verifier
        self._scopes = required(required_scopes)
        self._has_started = False

    async def __call__(
        self, connection: HTTPConnection, security_scopes: SecurityScopes = _NO_SCOPES
    ) -> VerifiedToken | None:
        """Return the caller of a request or WebSocket, or None: observe mode lets it through.

        Raises:
            HTTPException: 401 with ``WWW-Authenticate: Bearer``; 403 if a scope is missing.
            WebSocketException: The same for a WebSocket.
        """
        verification = verification_of(self._verifier)
        if not self._has_started:  # FastAPI calls no dependency before the first request
            self._has_started = True
            await verification.is_enforced_async()
        scopes = (*self._scopes, *security_scopes.scopes)
        values = connection.headers.getlist("authorization")
        result = await admit_http(self._verifier, values, connection.scope, scopes)
        del values  # a traceback that prints locals prints no token
        if isinstance(result, Reason):
            raise _refusal(connection, result, verification.all_scopes(scopes))
        return result


def _bearer_scheme() -> HTTPBearer:
    return HTTPBearer(bearerFormat="JWT", description="A token of a Manor service.")


def _refusal(connection: HTTPConnection, reason: Reason, scopes: Iterable[str]) -> Exception:
    if connection.scope["type"] == "websocket":
        return WebSocketException(POLICY_VIOLATION, message(reason))
    headers = {"WWW-Authenticate": challenge(reason, scopes)}
    return HTTPException(http_status(reason), message(reason), headers)


verify_mcp_token: MCPTokenDependency = MCPTokenDependency()
"""The strict dependency by the environment: ``Depends(verify_mcp_token)``."""
admit_mcp_token: MCPAdmissionDependency = MCPAdmissionDependency()
"""The one that follows ``MCP_AUTH_ENFORCEMENT``: ``dependencies=[Depends(admit_mcp_token)]``."""
