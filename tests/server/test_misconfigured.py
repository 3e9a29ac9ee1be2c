"""A server that cannot verify tokens logs it when it starts to serve, at WARNING."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from manor_mcp_interceptors import TokenVerifier
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.forward_auth import ForwardAuth
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_middleware import MCPAuthMiddleware
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend
from tests.server.http_services import fastapi_app


def fastapi_request() -> object:
    """FastAPI has no hook for a dependency before the first request that depends on it."""
    return TestClient(fastapi_app(None)).post("/mcp")


def forward_auth_start() -> None:
    """The module holds an application: its import must not read the environment."""
    with TestClient(ForwardAuth()):
        pass


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


STARTS: list[Callable[[], object]] = [
    lambda: TokenAuthMiddleware(application),
    lambda: MCPAuthMiddleware(application),
    GrpcAuthServerInterceptor,
    GrpcAioAuthServerInterceptor,
    MCPTokenVerifier,
    FastMCPTokenVerifier,
    TokenAuthBackend,
    forward_auth_start,
    fastapi_request,
]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "no token is accepted: no secret is set"),
        ({"MCP_AUTH_SECRET_FILE": "/nowhere/at/all"}, "no token is accepted: MCP_AUTH_SECRET_FILE"),
        ({"MCP_AUTH_SECRET": "short"}, "MCP_AUTH_SECRET is 5 bytes long"),
    ],
    ids=["no secret", "no such file", "short secret"],
)
@pytest.mark.parametrize("start", STARTS)
def test_a_misconfigured_server_logs_a_warning_when_it_starts(
    start: Callable[[], object],
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No call with a token is needed; two adapters of one process log it once."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start()
    start()
    lines = [record for record in caplog.records if expected in record.getMessage()]
    assert [record.levelno for record in lines] == [logging.WARNING]


def test_an_adapter_with_its_own_verifier_reads_no_environment(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verifier was checked when it was made."""
    monkeypatch.setenv("MCP_AUTH_SECRET", "s" * 40)
    verifier = TokenVerifier()
    monkeypatch.delenv("MCP_AUTH_SECRET")
    for make in (GrpcAuthServerInterceptor, MCPTokenVerifier, TokenAuthBackend):
        make(verifier)
    assert caplog.records == []


@pytest.mark.slow
def test_the_warning_is_visible_without_logging_configuration() -> None:
    """As uvicorn and plain scripts leave it; an import alone reads and logs nothing."""
    code = """
import sys
from manor_mcp_interceptors.server import fastapi_dependency, starlette_backend, mcp_verifier
from manor_mcp_interceptors.server.forward_auth import app
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
print("imported", file=sys.stderr)
GrpcAuthServerInterceptor()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, _, logged = done.stderr.partition("imported\n")
    assert imported == ""
    assert logged.startswith("MCP auth verification: no token is accepted: no secret is set")
