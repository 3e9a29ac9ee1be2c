"""The HTTP adapters under uvicorn: what clients with and without credentials get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import httpx2
import pytest
import requests
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.authentication import AuthenticationError, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

from manor_mcp_interceptors import (
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
    TokenVerifier,
    VerifiedToken,
)
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency, verify_mcp_token
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error
from tests.server.callers import CASES, PHRASE, SUBJECT, Case, token, verifier
from tests.server.http_services import (
    fastapi_app,
    fastmcp_app,
    mcp_sdk_app,
    plain_asgi_app,
    post,
    starlette_app,
)
from tests.support import SECRET, StaticGate
from tests.support.uvicorn_server import serve

HEADER_ADAPTERS = {"FastAPI": fastapi_app, "Starlette": starlette_app, "plain ASGI": plain_asgi_app}
SDK_SERVERS = {"MCP SDK": mcp_sdk_app, "FastMCP": fastmcp_app}
"""Servers that read the header themselves; of two they take the first."""

INVALID_TOKEN = f'Bearer error="invalid_token", error_description="{PHRASE}"'


@dataclass
class Running:
    """A service, and the verifier of its adapter."""

    name: str
    url: str
    verifier: TokenVerifier


@pytest.fixture(scope="module", params=[*HEADER_ADAPTERS, *SDK_SERVERS])
def both(request: pytest.FixtureRequest) -> Iterator[dict[bool, Running]]:
    """Serve with a previous secret (True) and without one (False), once for all tests."""
    make: Callable[[TokenVerifier], Any] = {**HEADER_ADAPTERS, **SDK_SERVERS}[request.param]
    checks = {previous: verifier(previous=previous) for previous in (True, False)}
    with serve(make(checks[True])) as first, serve(make(checks[False])) as second:
        urls = {True: f"{first}/mcp", False: f"{second}/mcp"}
        yield {key: Running(request.param, urls[key], checks[key]) for key in checks}


@pytest.fixture
def running(both: dict[bool, Running]) -> Running:
    """Return the server that accepts a previous secret too."""
    return both[True]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_which_credentials_are_accepted(case: Case, both: dict[bool, Running]) -> None:
    """Every kind of credentials: accepted, or 401 without the reason, which is counted."""
    running = both[case.previous]
    before = running.verifier.rejections()

    answer = post(running.url, case.values())

    if case.reason is None or (running.name in SDK_SERVERS and case.reason == "multiple"):
        assert answer.status == 200
        assert running.verifier.rejections() == before
        return
    assert answer.status == 401
    assert answer.challenge is not None
    assert answer.challenge.startswith("Bearer")
    if running.name in HEADER_ADAPTERS:
        assert answer.challenge == (INVALID_TOKEN if case.sends_token else "Bearer")
        assert answer.body == f'{{"detail":"{PHRASE}"}}'
        after = running.verifier.rejections()
        assert after.get(case.reason, 0) == before.get(case.reason, 0) + 1


def by_requests(url: str, provider: MCPTokenProvider) -> int:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, auth=RequestsAuth(provider=provider), **MESSAGE).status_code


def by_httpx(url: str, provider: MCPTokenProvider) -> int:
    with httpx.Client(auth=HttpxAuth(provider=provider), trust_env=False) as client:
        return client.post(url, **MESSAGE).status_code


def by_httpx2_async(url: str, provider: MCPTokenProvider) -> int:
    async def call() -> int:
        auth = Httpx2Auth(provider=provider)
        async with httpx2.AsyncClient(auth=auth, trust_env=False) as client:
            return (await client.post(url, **MESSAGE)).status_code

    return asyncio.run(call())


MESSAGE: dict[str, Any] = {
    "json": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "adapter", "version": "0"},
        },
    },
    "headers": {"Accept": "application/json, text/event-stream"},
}


@pytest.mark.parametrize("by", [by_requests, by_httpx, by_httpx2_async])
def test_the_client_adapters_are_accepted(
    by: Callable[[str, MCPTokenProvider], int], running: Running
) -> None:
    """Each server adapter accepts each client adapter; with the flag off, the answer is 401."""
    settings = Settings(secret=SECRET, subject=SUBJECT, key_id="k2")
    assert by(running.url, MCPTokenProvider(settings, gate=StaticGate())) == 200
    assert by(running.url, MCPTokenProvider(settings, gate=StaticGate(on=False))) == 401


# FastAPI


def protected_app() -> FastAPI:
    app = FastAPI()

    @app.get("/whoami")
    def whoami(caller: Annotated[VerifiedToken, Depends(verify_mcp_token)]) -> dict[str, str]:
        return {"caller": caller.subject}

    return app


def test_the_dependency_verifies_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret everything is refused; it may be set after the application was made."""
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    with TestClient(protected_app()) as client:
        headers = {"Authorization": f"Bearer {token()}"}
        answer = client.get("/whoami", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"detail": PHRASE})
        monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
        answer = client.get("/whoami", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"caller": SUBJECT})


def test_openapi_shows_an_http_bearer_scheme() -> None:
    """Generated clients and the docs page know what to send."""
    document = protected_app().openapi()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    assert document["paths"]["/whoami"]["get"]["security"] == [{"MCPToken": []}]


def test_a_whole_application_may_be_protected() -> None:
    """As a dependency of the application, for every route."""
    app = FastAPI(dependencies=[Depends(MCPTokenDependency(verifier()))])

    @app.get("/")
    def root() -> str:
        return "in"

    with TestClient(app) as client:
        assert client.get("/").status_code == 401
        good = client.get("/", headers={"Authorization": f"Bearer {token()}"})
        assert (good.status_code, good.json()) == (200, "in")


def test_a_test_may_override_the_dependency() -> None:
    """With FastAPI's `dependency_overrides`, and a caller made by hand."""
    app = protected_app()
    app.dependency_overrides[verify_mcp_token] = lambda: VerifiedToken(
        subject="someone", issuer="i", audience="a", issued_at=0, expires_at=1
    )
    with TestClient(app) as client:
        assert client.get("/whoami").json() == {"caller": "someone"}


@pytest.mark.parametrize("annotation", [VerifiedToken, None, Any])
def test_a_route_may_return_its_caller(annotation: Any) -> None:
    """As JSON with all claims, by the encoder of FastAPI and by a response model."""
    app = FastAPI()
    caller_of = MCPTokenDependency(verifier())

    @app.get("/", response_model=annotation)
    def root(caller: VerifiedToken = Depends(caller_of)) -> Any:  # noqa: B008, FAST002
        return caller

    sent: dict[str, Any] = {"roles": ["a"], "team": {"name": "search"}}
    with TestClient(app) as client:
        answer = client.get("/", headers={"Authorization": f"Bearer {token(**sent)}"})
        claims = answer.json()["claims"]
        assert {name: claims[name] for name in sent} == sent


def test_a_websocket_is_protected_too() -> None:
    """Refused before the handshake is complete; accepted with its caller."""
    app = FastAPI()
    dependency = MCPTokenDependency(verifier())

    @app.websocket("/ws")
    async def ws(socket: WebSocket, caller: VerifiedToken = Depends(dependency)) -> None:  # noqa: B008
        await socket.accept()
        await socket.send_text(caller.subject)
        await socket.close()

    with TestClient(app) as client:
        with (
            pytest.raises(WebSocketDisconnect) as refusal,
            client.websocket_connect("/ws"),
        ):
            pass
        assert (refusal.value.code, refusal.value.reason) == (1008, PHRASE)
        headers = {"Authorization": f"Bearer {token()}"}
        with client.websocket_connect("/ws", headers=headers) as socket:
            assert socket.receive_text() == SUBJECT


# Starlette


def public_app(check: TokenVerifier) -> Starlette:
    @requires("authenticated", status_code=401)
    def private(request: Request) -> JSONResponse:
        return JSONResponse({"caller": request.user.identity, "in": request.user.is_authenticated})

    def public(request: Request) -> JSONResponse:
        return JSONResponse({"in": request.user.is_authenticated})

    backend = TokenAuthBackend(check, required=False)
    return Starlette(
        routes=[Route("/private", private), Route("/public", public)],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)],
    )


def test_public_pages_beside_private_ones() -> None:
    """With ``required=False`` a call without a bearer token is let in; a bad token is not."""
    with TestClient(public_app(verifier())) as client:
        assert client.get("/public").json() == {"in": False}
        assert client.get("/private").status_code == 401
        good = {"Authorization": f"Bearer {token()}"}
        assert client.get("/public", headers=good).json() == {"in": True}
        assert client.get("/private", headers=good).json() == {"caller": SUBJECT, "in": True}
        for bad in ("Bearer nonsense", "bearer", "Bearer a b", " Bearer\t"):
            answer = client.get("/public", headers={"Authorization": bad})
            assert answer.status_code == 401
        for others in ("Basic eDp5", "", "Bearers x"):
            headers = {"Authorization": others}
            assert client.get("/public", headers=headers).json() == {"in": False}
            assert client.get("/private", headers=headers).status_code == 401
        twice = [("Authorization", "Basic eDp5"), ("Authorization", f"Bearer {token()}")]
        assert client.get("/public", headers=twice).status_code == 401


def test_another_error_is_still_a_401() -> None:
    """`on_auth_error` answers for the errors of other backends too."""
    answer = on_auth_error(Request({"type": "http"}), AuthenticationError("secret detail"))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert b"secret detail" not in answer.body
