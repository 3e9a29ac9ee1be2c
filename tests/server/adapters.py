"""Every way into a server, sync and async, behind one interface: send a call, get what it met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import fastmcp
import grpc
from fastapi import Depends, FastAPI
from fastmcp.server.dependencies import get_access_token as fastmcp_access_token
from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from manor_mcp_interceptors import TokenVerifier, VerifiedToken
from manor_mcp_interceptors._cli.mcp_sdk import MCPServer
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware, current_caller
from manor_mcp_interceptors.server.fastapi_dependency import MCPAdmissionDependency
from manor_mcp_interceptors.server.forward_auth import ForwardAuth
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_middleware import MCPAuthMiddleware
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error
from tests.server.asking import ask
from tests.server.grpc_services import (
    KINDS,
    AioService,
    SyncInAio,
    SyncService,
    aio_server,
    call,
    sync_server,
)
from tests.server.http_services import post
from tests.support.uvicorn_server import serve

REFUSED = "refused"
NOBODY = "nobody"
"""What a handler sees of a caller that was not verified."""

Call = Callable[[list[str]], str]
"""Sends ``Authorization`` values; returns the caller that the handler saw, or `REFUSED`."""
Adapter = Callable[[TokenVerifier], AbstractContextManager[Call]]

WHOAMI = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "whoami", "arguments": {}},
}


def name_of(caller: Any) -> str:
    return NOBODY if caller is None else str(caller.subject)


def fastapi_app(verifier: TokenVerifier) -> Any:
    admit = MCPAdmissionDependency(verifier)
    app = FastAPI(dependencies=[Depends(admit)])

    @app.post("/mcp")
    def whoami(caller: VerifiedToken | None = Depends(admit)) -> dict[str, str]:  # noqa: B008, FAST002
        return {"caller": name_of(caller)}

    return app


def starlette_app(verifier: TokenVerifier) -> Any:
    def whoami(request: Request) -> JSONResponse:
        user = request.user
        return JSONResponse({"caller": user.identity if user.is_authenticated else NOBODY})

    backend = TokenAuthBackend(verifier)
    return Starlette(
        routes=[Route("/mcp", whoami, methods=["POST"])],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)],
    )


def asgi_app(verifier: TokenVerifier) -> Any:
    """Return an application that is mounted within another one; the middleware is outside."""

    def whoami(_: Request) -> JSONResponse:
        return JSONResponse({"caller": name_of(current_caller())})

    inner = Starlette(routes=[Route("/", whoami, methods=["POST"])])
    return TokenAuthMiddleware(Starlette(routes=[Mount("/mcp", inner)]), verifier=verifier)


def mcp_sdk_app(verifier: TokenVerifier) -> Any:
    server = MCPServer("search", log_level="CRITICAL")

    @server.tool()
    def whoami() -> str:
        """Say who the caller is, by the SDK and by this library, which must agree."""
        assert name_of(get_access_token()) == name_of(current_caller())
        return f"caller {name_of(get_access_token())}"

    return MCPAuthMiddleware(server.streamable_http_app(), verifier=verifier)


def fastmcp_app(verifier: TokenVerifier) -> Any:
    server = fastmcp.FastMCP("search")

    @server.tool
    def whoami() -> str:
        """Say who the caller is, by FastMCP and by this library, which must agree."""
        access_token = fastmcp_access_token()  # FastMCP 3 drops its subject
        client = NOBODY if access_token is None else access_token.client_id
        assert client == name_of(current_caller())
        return f"caller {client}"

    return MCPAuthMiddleware(server.http_app(), verifier=verifier)


@dataclass(frozen=True)
class Http:
    """An ASGI application under uvicorn."""

    make: Callable[[TokenVerifier], Any]
    path: str = "/mcp"

    @contextmanager
    def __call__(self, verifier: TokenVerifier) -> Iterator[Call]:
        with serve(self.make(verifier)) as url:

            def send(values: list[str]) -> str:
                answer = post(url + self.path, values)
                if answer.status == 200 and answer.session is not None:
                    answer = post(url + self.path, values, WHOAMI, answer.session)
                if answer.status == 401:
                    assert (answer.challenge or "").startswith("Bearer")
                    return REFUSED
                assert answer.status == 200, answer
                return NOBODY if NOBODY in answer.body else _subject_in(answer.body)

            yield send


@contextmanager
def forward_auth(verifier: TokenVerifier) -> Iterator[Call]:
    """Send what a proxy asks; a handler would see the caller in a header."""
    with serve(ForwardAuth(verifier)) as url:

        def send(values: list[str]) -> str:
            asked = ask(url, values)
            if asked.status == 401:
                assert asked.headers["www-authenticate"].startswith("Bearer")
                return REFUSED
            assert asked.status == 200, asked
            assert asked.caller is not None
            return asked.caller or NOBODY

        yield send


def _subject_in(body: str) -> str:
    (subject,) = {name for name in ("service-a", "service-b") if name in body}
    return subject


@dataclass(frozen=True)
class Grpc:
    """A gRPC service of all four kinds."""

    serve: Callable[..., AbstractContextManager[str]]
    interceptor: Any
    service: Callable[[], Any]

    @contextmanager
    def __call__(self, verifier: TokenVerifier) -> Iterator[Call]:
        interceptors = [self.interceptor(verifier)]
        with (
            self.serve(interceptors, self.service()) as target,
            grpc.insecure_channel(target) as channel,
        ):

            def send(values: list[str]) -> str:
                metadata = [("authorization", value) for value in values]
                answers = {call(channel, kind, metadata) for kind in KINDS}
                met = {REFUSED if one.startswith("UNAUTHENTICATED") else one for one in answers}
                return " and ".join(met)  # more than one if the mode changes meanwhile

            yield send


ADAPTERS: dict[str, Adapter] = {
    "FastAPI": Http(fastapi_app),
    "Starlette": Http(starlette_app),
    "ASGI, mounted": Http(asgi_app, "/mcp/"),
    "forward auth": forward_auth,
    "MCP SDK": Http(mcp_sdk_app),
    "FastMCP": Http(fastmcp_app),
    "gRPC": Grpc(sync_server, GrpcAuthServerInterceptor, SyncService),
    "gRPC aio": Grpc(aio_server, GrpcAioAuthServerInterceptor, AioService),
    "gRPC aio, plain functions": Grpc(aio_server, GrpcAioAuthServerInterceptor, SyncInAio),
}
