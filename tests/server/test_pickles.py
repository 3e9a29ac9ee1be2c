"""Secrets and tokens stay in the process: what a pickle or a copy of a server adapter holds."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.fastapi_dependency import (
    MCPAdmissionDependency,
    MCPTokenDependency,
)
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.forward_auth import ForwardAuth
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_middleware import MCPAuthMiddleware
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend, on_auth_error
from manor_mcp_interceptors.server.verifier import verification_of
from tests.server.callers import token
from tests.server.forging import claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate


def fastapi_app(verifier: TokenVerifier | None) -> FastAPI:
    return FastAPI(dependencies=[Depends(MCPTokenDependency(verifier))])


def starlette_app(verifier: TokenVerifier | None) -> Starlette:
    backend = TokenAuthBackend(verifier)
    auth = Middleware(AuthenticationMiddleware, backend=backend, on_error=on_auth_error)
    return Starlette(middleware=[auth])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


def asgi_middleware(verifier: TokenVerifier | None) -> TokenAuthMiddleware:
    return TokenAuthMiddleware(application, verifier=verifier)


def mcp_middleware(verifier: TokenVerifier | None) -> MCPAuthMiddleware:
    return MCPAuthMiddleware(application, verifier=verifier)


ADAPTERS: list[Callable[[Any], Any]] = [
    MCPTokenDependency,
    MCPAdmissionDependency,
    asgi_middleware,
    mcp_middleware,
    ForwardAuth,
    TokenAuthBackend,
    GrpcAuthServerInterceptor,
    GrpcAioAuthServerInterceptor,
    MCPTokenVerifier,
    FastMCPTokenVerifier,
]
APPS: list[Callable[[Any], Any]] = [fastapi_app, starlette_app]


def settings() -> Settings:
    return Settings(secret=SECRET, previous_secret=OTHER_SECRET, audience="service-search-mcp")


@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize("make", [lambda verifier: verifier, *ADAPTERS, *APPS])
def test_a_pickle_holds_neither_secret_nor_token(
    make: Callable[[Any], Any], by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pickle and by cloudpickle, which Ray and Dask use; plain pickle takes no FastAPI app."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)
    verifier = None if by_environment else TokenVerifier(settings())
    verified = token()
    verification_of(verifier).check_token(verified)
    made = make(verifier)
    for pickler in [cloudpickle] if make is fastapi_app else [pickle, cloudpickle]:
        data = pickler.dumps(made)
        assert [text for text in (SECRET, OTHER_SECRET, verified) if text.encode() in data] == []
        if make not in APPS:  # Starlette's own `State` cannot be unpickled
            pickle.loads(data)
            copy.deepcopy(made)


def test_an_unpickled_verifier_without_a_secret_refuses_every_token() -> None:
    """Loading it does not raise."""
    loaded = pickle.loads(pickle.dumps(TokenVerifier(settings())))
    with pytest.raises(TokenRejectedError, match="not_configured"):
        loaded.verify(token())


def test_an_unpickled_verifier_keeps_its_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The secret comes from the environment or a file of the new process; the rest is pickled."""
    file = tmp_path_factory.mktemp("mounted") / "key"
    file.write_text(SECRET)
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    for given in (None, Settings(secret_file=file)):
        verifier = TokenVerifier(
            given,
            leeway_seconds=60,
            allowed_subjects=["service-a"],
            other_issuers=True,
            gate=StaticGate(),
        )
        loaded = pickle.loads(pickle.dumps(verifier))
        assert loaded.verify(token(age=3630)).subject == "service-a"
        with pytest.raises(TokenRejectedError, match="subject"):
            loaded.verify(token(sub="service-b"))
        with pytest.raises(TokenRejectedError, match="other_issuer"):
            loaded.verify(token(iss="other"))


def test_a_copy_is_the_verifier_itself(clock: FakeClock) -> None:
    """It has the same secrets, remembered tokens and counts."""
    verifier = TokenVerifier(settings(), clock=clock)
    verifier.verify(forge(claims()))
    assert copy.copy(verifier) is verifier
    assert copy.deepcopy({"verifier": verifier})["verifier"] is verifier
