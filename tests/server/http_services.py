"""One service behind every HTTP adapter, and a client that sends exactly what it is given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from manor_mcp_interceptors import TokenVerifier, VerifiedToken
from manor_mcp_interceptors._cli.mcp_sdk import MCPServer
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bare", "version": "0"},
    },
}


def fastapi_app(verifier: TokenVerifier | None) -> Any:
    app = FastAPI()
    caller_of = MCPTokenDependency(verifier)

    @app.post("/mcp")
    def whoami(caller: VerifiedToken = Depends(caller_of)) -> dict[str, str]:  # noqa: B008, FAST002
        return {"caller": caller.subject}

    return app


def starlette_app(verifier: TokenVerifier | None) -> Any:
    def whoami(request: Request) -> JSONResponse:
        return JSONResponse({"caller": request.user.display_name})

    backend = TokenAuthBackend(verifier)
    return Starlette(
        routes=[Route("/mcp", whoami, methods=["POST"])],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)],
    )


def plain_asgi_app(verifier: TokenVerifier | None) -> Any:
    """Return an application of no framework at all."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = json.dumps({"caller": scope["user"].identity}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return AuthenticationMiddleware(app, backend=TokenAuthBackend(verifier), on_error=on_auth_error)


def mcp_sdk_app(verifier: TokenVerifier | None) -> Any:
    server = MCPServer(
        "search",
        token_verifier=MCPTokenVerifier(verifier),
        auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        log_level="CRITICAL",
    )

    @server.tool()
    def whoami() -> str:
        """Say who the caller is."""
        access = get_access_token()
        return "nobody" if access is None else str(access.subject)

    return server.streamable_http_app()


def fastmcp_app(verifier: TokenVerifier | None) -> Any:
    # Here, so that the other services need no FastMCP: it asks for a newer Starlette.
    import fastmcp
    from fastmcp.server.dependencies import get_access_token as fastmcp_access_token

    from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier

    server = fastmcp.FastMCP("search", auth=FastMCPTokenVerifier(verifier))

    @server.tool
    def whoami() -> str:
        """Say who the caller is."""
        access = fastmcp_access_token()
        return "nobody" if access is None else str(access.subject)

    return server.http_app()


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    status: int
    challenge: str | None
    body: str
    session: str | None = None


def post(
    url: str,
    authorizations: list[str],
    message: dict[str, Any] | None = None,
    session: str | None = None,
) -> Answer:
    """Post one MCP message with each of the ``Authorization`` values, as they are."""
    parts = urlsplit(url)
    body = json.dumps(INITIALIZE if message is None else message).encode()
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.putrequest("POST", parts.path)
        for value in authorizations:
            connection.putheader("Authorization", value)
        if session is not None:
            connection.putheader("Mcp-Session-Id", session)
        connection.putheader("Accept", "application/json, text/event-stream")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(
            response.status,
            response.getheader("WWW-Authenticate"),
            response.read().decode(),
            response.getheader("Mcp-Session-Id"),
        )
    finally:
        connection.close()
