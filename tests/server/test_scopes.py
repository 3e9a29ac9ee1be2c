"""Scopes: what a caller puts into its tokens, and what servers do if one is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastmcp
import grpc
import httpx2
import pytest
from fastapi import Depends, FastAPI, Security
from fastmcp.server.auth import require_scopes
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from manor_mcp_interceptors import (
    Httpx2Auth,
    MCPTokenProvider,
    Settings,
    SettingsError,
    TokenRejectedError,
    TokenVerifier,
    VerifiedToken,
)
from manor_mcp_interceptors._cli.mcp_sdk import MCPServer
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error
from tests.server.callers import token
from tests.server.forging import claims, forge
from tests.server.grpc_services import (
    KINDS,
    AioService,
    SyncService,
    aio_server,
    call,
    sync_server,
)
from tests.server.http_services import Answer, post
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.uvicorn_server import serve

READ, WRITE = "search:read", "search:write"
BOTH = f"{READ} {WRITE}"
SETTINGS = Settings(secret=SECRET)


def insufficient(*scopes: str) -> str:
    return f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'


def post_with(url: str, scope: str | None) -> Answer:
    """Post a message with a token of this scope."""
    changes: dict[str, Any] = {} if scope is None else {"scope": scope}
    return post(url, [f"Bearer {token(**changes)}"])


# The caller


def test_the_scope_of_the_settings_is_a_claim(clock: FakeClock) -> None:
    """As one text with spaces; without the setting there is no claim."""
    settings = Settings(secret=SECRET, scope=f" {READ}  {WRITE}\n")
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    verified = TokenVerifier(SETTINGS, clock=clock).verify(str(provider.token()))
    assert (verified.claims["scope"], verified.scopes) == (BOTH, (READ, WRITE))
    plain = MCPTokenProvider(SETTINGS, gate=StaticGate(), clock=clock)
    without = TokenVerifier(SETTINGS, clock=clock).verify(str(plain.token()))
    assert ("scope" in without.claims, without.scopes) == (False, ())


def test_a_changed_scope_is_in_the_next_token(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the recheck interval, though the old token has not expired."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_SCOPE", READ)
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock)
    verifier = TokenVerifier(SETTINGS, clock=clock)
    assert verifier.verify(str(provider.token())).scopes == (READ,)
    monkeypatch.setenv("MCP_AUTH_SCOPE", BOTH)
    clock.advance(1)
    assert verifier.verify(str(provider.token())).scopes == (READ, WRITE)


# The verifier


@pytest.mark.parametrize(
    ("scope", "is_accepted"),
    [
        (BOTH, True),
        (f"{WRITE} other {READ}", True),
        (READ, False),
        (f"{READ} {WRITE}s", False),
        (f"{READ}\t{WRITE}", False),
        ("", False),
        (..., False),
        ([READ, WRITE], False),
        (None, False),
    ],
)
def test_a_verifier_requires_each_of_its_scopes(
    clock: FakeClock, scope: object, is_accepted: bool
) -> None:
    """At the first call and when the token is remembered; a `scope` that is not text has none."""
    verifier = TokenVerifier(SETTINGS, required_scopes=[READ, WRITE], clock=clock)
    value = forge(claims(scope=scope))
    for _ in range(2):
        if is_accepted:
            assert verifier.verify(value).subject == "service-a"
            continue
        with pytest.raises(TokenRejectedError, match=r"^scope$"):
            verifier.verify(value)
    stats = verifier.stats()
    assert stats.accepted + stats.remembered == (2 if is_accepted else 0)
    assert stats.rejected == ({} if is_accepted else {"scope": 2})


def test_a_bad_token_is_refused_for_that_and_not_for_its_scope(clock: FakeClock) -> None:
    """A client whose token has expired needs a new one: 401."""
    verifier = TokenVerifier(SETTINGS, required_scopes=[READ], clock=clock)
    for reason, value in {
        "expired": forge(claims(exp=1)),
        "signature": forge(claims(), secret="x" * 40),
    }.items():
        with pytest.raises(TokenRejectedError, match=reason):
            verifier.verify(value)


@pytest.mark.parametrize("scopes", ["search:read", ["a b"], ['a"b'], [""], [7]])
@pytest.mark.parametrize(
    "make",
    [
        lambda scopes: TokenVerifier(SETTINGS, required_scopes=scopes),
        lambda scopes: MCPTokenDependency(required_scopes=scopes),
        lambda scopes: TokenAuthBackend(required_scopes=scopes),
        lambda scopes: GrpcAuthServerInterceptor(required_scopes=scopes),
        lambda scopes: GrpcAioAuthServerInterceptor(required_scopes=scopes),
        lambda scopes: MCPTokenVerifier(required_scopes=scopes),
        lambda scopes: FastMCPTokenVerifier(required_scopes=scopes),
    ],
)
def test_required_scopes_that_no_token_could_have_are_refused(
    make: Callable[[Any], object], scopes: Any
) -> None:
    """When the server starts. One text would otherwise be a list of letters."""
    with pytest.raises(SettingsError, match="required_scopes"):
        make(scopes)


# FastAPI


def fastapi_app(verifier: TokenVerifier) -> FastAPI:
    """Require READ everywhere, and WRITE on one path."""
    app, caller_of = FastAPI(), MCPTokenDependency(verifier, required_scopes=[READ])

    @app.post("/read")
    def read(caller: VerifiedToken = Depends(caller_of)) -> dict[str, str]:  # noqa: B008, FAST002
        return {"caller": caller.subject}

    @app.post("/write")
    def write(
        caller: VerifiedToken = Security(caller_of, scopes=[WRITE]),  # noqa: B008, FAST002
    ) -> dict[str, str]:
        return {"caller": caller.subject}

    return app


def test_fastapi_requires_the_scopes_of_security() -> None:
    """Beside those of the dependency and of the verifier; 403 names all of them."""
    verifier = TokenVerifier(SETTINGS, required_scopes=["mcp"])
    with serve(fastapi_app(verifier)) as url:
        assert post_with(f"{url}/read", f"mcp {READ}").status == 200
        assert post_with(f"{url}/write", f"mcp {BOTH}").status == 200
        refused = post_with(f"{url}/write", f"mcp {READ}")
        assert (refused.status, json.loads(refused.body)) == (403, {"detail": "insufficient scope"})
        assert refused.challenge == insufficient("mcp", READ, WRITE)
        assert post_with(f"{url}/read", READ).challenge == insufficient("mcp", READ)
        assert post(f"{url}/write", []).status == 401
    assert verifier.rejections() == {"scope": 2, "missing": 1}


def test_a_client_does_not_retry_a_missing_scope() -> None:
    """Another token would have the same scopes: one request, no new token."""
    provider = MCPTokenProvider(Settings(secret=SECRET, scope=READ), gate=StaticGate())
    verifier = TokenVerifier(SETTINGS)
    with (
        serve(fastapi_app(verifier)) as url,
        httpx2.Client(auth=Httpx2Auth(provider=provider)) as client,
    ):
        assert client.post(f"{url}/read").status_code == 200
        assert client.post(f"{url}/write").status_code == 403
    stats = provider.stats()
    assert (stats.mints, stats.refreshes, stats.retries) == (1, 0, 0)
    assert verifier.rejections() == {"scope": 1}


# Starlette


def test_starlette_has_the_scopes_of_the_token() -> None:
    """For `requires`; the backend's own scopes are required of every page."""

    @requires(WRITE)
    async def write(request: Request) -> JSONResponse:
        return JSONResponse({"scopes": sorted(request.auth.scopes)})

    backend = TokenAuthBackend(TokenVerifier(SETTINGS), required_scopes=[READ])
    app = Starlette(
        routes=[Route("/write", write, methods=["POST"])],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)],
    )
    with serve(app) as url:
        good = post_with(f"{url}/write", BOTH)
        assert json.loads(good.body) == {"scopes": ["authenticated", READ, WRITE]}
        assert post_with(f"{url}/write", READ).status == 403  # by Starlette
        refused = post_with(f"{url}/write", WRITE)
        assert (refused.status, refused.challenge) == (403, insufficient(READ))
        assert json.loads(refused.body) == {"detail": "insufficient scope"}
        assert post_with(f"{url}/write", None).challenge == insufficient(READ)
        assert post(f"{url}/write", []).status == 401


# gRPC


@contextmanager
def grpc_service(flavour: str, verifier: TokenVerifier) -> Iterator[tuple[str, list[str]]]:
    service: Any = SyncService() if flavour == "sync" else AioService()
    kind = GrpcAuthServerInterceptor if flavour == "sync" else GrpcAioAuthServerInterceptor
    start: Any = sync_server if flavour == "sync" else aio_server
    with start([kind(verifier, required_scopes=[WRITE])], service) as target:
        yield target, service.ran


@pytest.mark.parametrize("flavour", ["sync", "aio"])
def test_grpc_denies_a_call_without_the_scope(flavour: str) -> None:
    """PERMISSION_DENIED for each kind of call, and no code of the service runs."""
    verifier = TokenVerifier(SETTINGS, required_scopes=[READ])
    with grpc_service(flavour, verifier) as (target, ran), grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            for scope in (READ, WRITE, None):
                changes: dict[str, Any] = {} if scope is None else {"scope": scope}
                metadata = [("authorization", f"Bearer {token(**changes)}")]
                answer = call(channel, kind, metadata)
                assert answer == "PERMISSION_DENIED: insufficient scope"
            assert call(channel, kind).startswith("UNAUTHENTICATED")
        assert ran == []
        good = [("authorization", f"Bearer {token(scope=BOTH)}")]
        assert [call(channel, kind, good) for kind in KINDS] == ["service-a"] * 4
    assert verifier.rejections() == {"scope": 12, "missing": 4}


# The MCP SDK and FastMCP


def mcp_sdk_app(verifier: MCPTokenVerifier, required_scopes: list[str] | None) -> Any:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("http://127.0.0.1"),
        resource_server_url=None,
        required_scopes=required_scopes,
    )
    server = MCPServer("search", token_verifier=verifier, auth=auth, log_level="CRITICAL")
    return server.streamable_http_app()


def test_the_mcp_sdk_answers_403_for_its_required_scopes() -> None:
    """It reads them from the caller that the verifier reports."""
    with serve(mcp_sdk_app(MCPTokenVerifier(TokenVerifier(SETTINGS)), [WRITE])) as url:
        assert post_with(f"{url}/mcp", BOTH).status == 200
        refused = post_with(f"{url}/mcp", READ)
        assert refused.status == 403
        assert 'error="insufficient_scope"' in str(refused.challenge)
        assert post(f"{url}/mcp", []).status == 401


@pytest.mark.parametrize("by", ["adapter", "verifier"])
@pytest.mark.parametrize("server", ["MCP SDK", "FastMCP"])
def test_scopes_that_a_verifier_of_an_mcp_server_requires_are_enforced(
    server: str, by: str
) -> None:
    """Whatever the server requires: 401, as a verifier knows no other refusal; counted."""
    verifier = TokenVerifier(SETTINGS, required_scopes=[WRITE] if by == "verifier" else ())
    scopes = [WRITE] if by == "adapter" else []
    if server == "MCP SDK":
        app = mcp_sdk_app(MCPTokenVerifier(verifier, required_scopes=scopes), None)
    else:
        auth = FastMCPTokenVerifier(verifier, required_scopes=scopes)
        app = fastmcp.FastMCP("search", auth=auth).http_app()
    with serve(app) as url:
        assert post_with(f"{url}/mcp", BOTH).status == 200
        assert post_with(f"{url}/mcp", READ).status == 401
    assert verifier.rejections() == {"scope": 1}


@pytest.mark.slow
def test_fastmcp_protects_single_tools_by_scope() -> None:
    """`require_scopes` reads the scopes of our tokens: who lacks one cannot call the tool."""
    server = fastmcp.FastMCP("search", auth=FastMCPTokenVerifier(TokenVerifier(SETTINGS)))

    @server.tool
    def find() -> str:
        return "found"

    @server.tool(auth=require_scopes(WRITE))
    def delete() -> str:
        return "deleted"

    async def use(url: str, scope: str) -> tuple[list[str], str]:
        async with fastmcp.Client(f"{url}/mcp", auth=token(scope=scope)) as client:
            tools = sorted(tool.name for tool in await client.list_tools())
            try:
                result = await client.call_tool("delete")
            except Exception as error:  # of several kinds
                return tools, type(error).__name__
            return tools, str(result.data)

    with serve(server.http_app()) as url:
        assert asyncio.run(use(url, BOTH)) == (["delete", "find"], "deleted")
        tools, error = asyncio.run(use(url, READ))
        assert tools == ["find"]
        assert error.endswith("Error")
