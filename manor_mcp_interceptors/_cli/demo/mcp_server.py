"""An MCP server of the official SDK, whose callers `MCPTokenVerifier` checks."""

from __future__ import annotations

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.types import ASGIApp, Receive, Scope, Send

from manor_mcp_interceptors._cli.mcp_sdk import MCPServer
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.verifier import TokenVerifier

from .guestbook import NO_TOKEN, REFUSED, Guestbook

DOCUMENTS = {"margins": "Tokens are renewed thirty seconds before they expire."}


class _NotingVerifier(MCPTokenVerifier):
    """The verifier, which also notes its results."""

    def __init__(self, verifier: TokenVerifier, guestbook: Guestbook) -> None:
        super().__init__(verifier)
        self._guestbook = guestbook

    async def verify_token(self, token: str) -> AccessToken | None:
        access = await super().verify_token(token)
        self._guestbook.note(REFUSED if access is None else str(access.subject))
        return access


def mcp_server(verifier: TokenVerifier, guestbook: Guestbook) -> ASGIApp:
    """Return a server with the tools ``whoami`` and ``search``, for streamable HTTP at ``/mcp``."""
    server = MCPServer(
        "manor-search",
        token_verifier=_NotingVerifier(verifier, guestbook),
        # The issuer is just a name: no OAuth server issues the tokens.
        auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        log_level="CRITICAL",
    )

    @server.tool()
    def whoami() -> str:
        """Return the name of the caller."""
        access = get_access_token()
        return "nobody" if access is None else str(access.subject)

    @server.tool()
    def search(query: str) -> list[str]:
        """Return the documents that contain the query."""
        return [text for text in DOCUMENTS.values() if query.lower() in text.lower()]

    application = server.streamable_http_app()

    async def noting_bare_calls(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"authorization" not in dict(scope["headers"]):
            guestbook.note(NO_TOKEN)  # the verifier is not asked
        await application(scope, receive, send)

    return noting_bare_calls
