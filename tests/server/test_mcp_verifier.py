"""MCP servers, the SDK's and FastMCP's: what they know of a caller, and who owns a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from pydantic import AnyHttpUrl
from starlette.requests import HTTPConnection

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.server.callers import token, verifier
from tests.server.http_services import Answer, fastmcp_app, mcp_sdk_app, post
from tests.support import AUDIENCE, SECRET
from tests.support.uvicorn_server import serve

WHOAMI = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "whoami", "arguments": {}},
}

both = pytest.mark.parametrize("make", [MCPTokenVerifier, FastMCPTokenVerifier])


@both
def test_what_the_server_knows_of_its_caller(make: Any) -> None:
    """Everything by which the SDK distinguishes principals; the `repr` does not show the token."""
    raw = token(scope="read write", team={"name": "search"})
    access = asyncio.run(make(verifier()).verify_token(raw))
    assert (access.client_id, access.subject, access.claims["iss"]) == (
        "service-a",
        "service-a",
        "manor-internal",
    )
    assert (access.token, access.scopes, access.resource) == (raw, ["read", "write"], AUDIENCE)
    assert access.expires_at == access.claims["exp"]
    assert type(access.expires_at) is int
    assert raw in access.model_dump_json()
    assert raw not in repr(access) + str(access) + repr(access.model_copy())


@both
def test_a_refused_token_is_none(make: Any) -> None:
    """Never an exception: the SDK would answer 500 for one."""
    check = make(verifier())
    for raw in (token(secret="x" * 40), token(age=3600), "", "\ud800", "x" * 10_000):
        assert asyncio.run(check.verify_token(raw)) is None
    assert asyncio.run(check.verify_token(None)) is None


@both
def test_without_a_secret_every_token_is_none(make: Any) -> None:
    """The process-wide verifier does not raise either."""
    assert asyncio.run(make().verify_token(token())) is None


def test_the_resource_that_the_sdk_asks_for() -> None:
    """With ``validate_token_resource`` on, the server's own URL is reported."""
    url = "https://search.example.com/mcp"

    async def is_accepted(check: MCPTokenVerifier) -> bool:
        backend = BearerAuthBackend(check, resource_server_url=AnyHttpUrl(url))
        headers = [(b"authorization", f"Bearer {token()}".encode())]
        connection = HTTPConnection({"type": "http", "headers": headers})
        return await backend.authenticate(connection) is not None

    assert asyncio.run(is_accepted(MCPTokenVerifier(verifier(), resource=url)))
    assert not asyncio.run(is_accepted(MCPTokenVerifier(verifier())))


@pytest.fixture(scope="module", params=[mcp_sdk_app, fastmcp_app], ids=["MCP SDK", "FastMCP"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve once."""
    make: Callable[[TokenVerifier], Any] = request.param
    with serve(make(verifier())) as url:
        yield f"{url}/mcp"


def whoami(url: str, session: str | None, **claims: Any) -> Answer:
    return post(url, [f"Bearer {token(**claims)}"], WHOAMI, session)


def test_another_caller_cannot_join_a_session(url: str) -> None:
    """Not even with its session id; the owner's session keeps working."""
    session = post(url, [f"Bearer {token()}"]).session
    assert session is not None
    assert "service-a" in whoami(url, session).body

    other = whoami(url, session, sub="service-b")
    assert other.status == 404
    assert "service-a" not in other.body
    assert post(url, [], WHOAMI, session).status == 401

    assert "service-a" in whoami(url, session).body


def test_a_session_survives_a_new_token(url: str) -> None:
    """A refreshed token, or one with a `kid`, keeps the session of its caller."""
    session = post(url, [f"Bearer {token(age=100)}"]).session
    for claims in ({"age": 0}, {"jti": "2"}, {"kid": "k2"}):
        answer = whoami(url, session, **claims)
        assert answer.status == 200
        assert "service-a" in answer.body


def test_an_old_token_of_the_owner_is_refused(url: str) -> None:
    """A session is no substitute for a token that is still valid."""
    session = post(url, [f"Bearer {token()}"]).session
    assert whoami(url, session, age=3600).status == 401


@both
def test_a_verifier_with_explicit_settings(make: Any) -> None:
    """The environment is not needed."""
    check = make(TokenVerifier(Settings(secret=SECRET)))
    assert asyncio.run(check.verify_token(token())) is not None
