"""Machines beside people: a token of another issuer is nobody's refusal."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import fastmcp
import pytest
from fastmcp.server.auth import AccessToken, MultiAuth
from fastmcp.server.auth import TokenVerifier as FastMCPVerifier
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    requires,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error
from tests.server.callers import token
from tests.server.forging import b64
from tests.server.http_services import post
from tests.support import SECRET
from tests.support.uvicorn_server import serve

IDP = "https://idp.example"
HUMAN = "human-token"


def verifier(*, other_issuers: bool = True) -> TokenVerifier:
    return TokenVerifier(Settings(secret=SECRET), other_issuers=other_issuers)


def rs256(issuer: str) -> str:
    """Return what looks like a token of an identity provider; nobody here can verify it."""
    parts = [{"alg": "RS256", "kid": "1"}, {"iss": issuer, "sub": "person"}]
    encoded = [b64(json.dumps(part).encode()) for part in parts]
    return ".".join([*encoded, "A" * 342])


OTHERS = {
    "RS256": rs256(IDP),
    "HS256, another secret": token(iss=IDP, secret="x" * 40),
    "HS256, the same secret": token(iss=IDP),
    "no issuer": token(iss=...),
    "issuers": token(iss=[IDP]),
    "opaque": "gho_16C7e42F292c6912E7710c838347Ae178B4a",
    "encrypted": "a.b.c.d.e",
    "not JSON": "eA.eA.eA",
    "over 8 KiB": "x" * 10_000,
}
THIS_ISSUER = {
    "signature": token(secret="x" * 40),
    "expired": token(age=3600),
    "audience": token(aud="other-mcp"),
    "algorithm": rs256("manor-internal"),
}


def reason(check: TokenVerifier, raw: str) -> str:
    with pytest.raises(TokenRejectedError) as refusal:
        check.verify(raw)
    return refusal.value.reason


@pytest.mark.parametrize("raw", OTHERS.values(), ids=OTHERS)
def test_a_token_of_another_issuer_is_not_counted_or_logged_as_refused(
    raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not accepted either. On a server for machines only, it is refused as any other."""
    caplog.set_level(logging.DEBUG, "manor_mcp_interceptors")
    check = verifier()
    assert reason(check, raw) == "other_issuer"
    stats = check.stats()
    assert (stats.rejected, stats.other_issuers, check.rejections()) == ({}, 1, {})
    assert caplog.messages == []

    alone = verifier(other_issuers=False)
    assert reason(alone, raw) != "other_issuer"
    assert sum(alone.rejections().values()) == 1


@pytest.mark.parametrize("expected", THIS_ISSUER)
def test_a_bad_token_that_names_this_issuer_is_refused_as_ever(expected: str) -> None:
    """An attacker or a broken caller cannot hide among the people's tokens."""
    check = verifier()
    assert reason(check, THIS_ISSUER[expected]) == expected
    assert check.rejections() == {expected: 1}
    assert check.stats().other_issuers == 0


class PeopleVerifier(FastMCPVerifier):
    """Stands for an identity provider."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="person", scopes=[]) if token == HUMAN else None


def test_people_and_machines_at_one_fastmcp_server() -> None:
    """`MultiAuth` asks each verifier in turn."""
    check = verifier()
    verifiers: Any = {"machines": FastMCPTokenVerifier(check), "people": PeopleVerifier()}
    if fastmcp.__version__ < "4":  # which takes no names
        verifiers = list(verifiers.values())
    both = MultiAuth(verifiers=verifiers)
    with serve(fastmcp.FastMCP("search", auth=both).http_app()) as url:
        for raw, status in (
            (token(), 200),
            (HUMAN, 200),
            ("nobody", 401),
            (THIS_ISSUER["expired"], 401),
        ):
            assert post(f"{url}/mcp", [f"Bearer {raw}"]).status == status
    assert check.rejections() == {"expired": 1}
    assert (check.stats().accepted, check.stats().other_issuers) == (1, 2)


class People(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if conn.headers.get("authorization") != f"Bearer {HUMAN}":
            return None
        return AuthCredentials(["authenticated"]), SimpleUser("person")


class Either(AuthenticationBackend):
    """Two backends of one application, in turn."""

    def __init__(self, *backends: AuthenticationBackend) -> None:
        self._backends = backends

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        for backend in self._backends:
            if (found := await backend.authenticate(conn)) is not None:
                return found
        return None


def test_people_and_machines_at_one_starlette_application() -> None:
    """With ``required=False`` the other backend is asked; nobody is let in by none of them."""

    @requires("authenticated", status_code=401)
    def whoami(request: Request) -> JSONResponse:
        return JSONResponse(request.user.display_name)

    def client(check: TokenVerifier, *, required: bool) -> TestClient:
        backend = Either(TokenAuthBackend(check, required=required), People())
        auth: Any = Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)
        return TestClient(Starlette(routes=[Route("/", whoami)], middleware=[auth]))

    def get(client: TestClient, raw: str) -> object:
        answer = client.get("/", headers={"Authorization": f"Bearer {raw}"})
        return answer.json() if answer.status_code == 200 else answer.status_code

    check = verifier()
    open_to_others = client(check, required=False)
    assert get(open_to_others, token()) == "service-a"
    assert get(open_to_others, HUMAN) == "person"
    assert get(open_to_others, "nobody") == 401
    assert get(open_to_others, THIS_ISSUER["signature"]) == 401
    assert check.rejections() == {"signature": 1}
    assert get(client(check, required=True), HUMAN) == 401


def test_observe_mode_says_nothing_of_other_issuers(caplog: pytest.LogCaptureFixture) -> None:
    """They are let through by observe mode, and counted as what they are."""
    check = TokenVerifier(Settings(secret=SECRET, enforcement="observe"), other_issuers=True)
    backend = TokenAuthBackend(check)
    caplog.clear()
    headers = [(b"authorization", f"Bearer {rs256(IDP)}".encode())]
    connection = HTTPConnection({"type": "http", "headers": headers, "client": None})
    assert asyncio.run(backend.authenticate(connection)) is None
    assert (check.stats().observed, check.stats().other_issuers) == ({}, 1)
    assert caplog.messages == []
