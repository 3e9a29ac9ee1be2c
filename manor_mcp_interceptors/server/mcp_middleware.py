"""MCP servers of the official SDK and FastMCP, both majors: a middleware around their app."""

from __future__ import annotations

from collections.abc import Iterable

from manor_mcp_interceptors._optional import needs

with needs("mcp", __name__):
    from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

from starlette.authentication import AuthCredentials

from manor_mcp_interceptors._bearer import parse_bearer

from ._caller import caller_var, current_caller
from .asgi_middleware import ASGIApp, Receive, Scope, Send, TokenAuthMiddleware, header_values
from .mcp_verifier import access_token
from .verifier import TokenVerifier, VerifiedToken

__all__ = ["MCPAuthMiddleware", "current_caller"]


class MCPAuthMiddleware:
    """`TokenAuthMiddleware` for an MCP server: ``MCPAuthMiddleware(server.streamable_http_app())``.

    The server itself has no ``auth``, no ``token_verifier`` and no OAuth settings; no client is
    led into an OAuth flow. `get_access_token` works in its tools, and a session belongs to the
    issuer and subject that opened it (python-sdk#3283, #3292).

    It follows ``MCP_AUTH_ENFORCEMENT``, which `MCPTokenVerifier` cannot do: the SDK refuses a call
    without a token before it asks its verifier. In observe mode an unverified call has no access
    token, and a session that it opens belongs to nobody: if its caller then begins to send tokens,
    the server answers 404, after which a client opens a new session (MCP, Streamable HTTP).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: TokenVerifier | None = None,
        exempt: Iterable[str] = (),
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the same arguments as `TokenAuthMiddleware`.

        Raises:
            ValueError: An exempt path has another form.
        """
        self._app = TokenAuthMiddleware(
            _Identified(AuthContextMiddleware(app)),
            verifier=verifier,
            exempt=exempt,
            required_scopes=required_scopes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        await self._app(scope, receive, send)


class _Identified:
    """Tells the SDK who the verified caller is, as its authentication middleware does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_var.get()
        await self._app(scope if caller is None else _identified(scope, caller), receive, send)


def _identified(scope: Scope, caller: VerifiedToken) -> Scope:
    (value,) = header_values(scope, b"authorization")
    user = AuthenticatedUser(access_token(parse_bearer(value) or "", caller))
    return {**scope, "user": user, "auth": AuthCredentials(user.scopes)}
