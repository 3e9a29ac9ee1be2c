"""What the adapters count: second tries, and hosts that may not have a token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import grpc
import httpx
import httpx2
import pytest
import requests

from manor_mcp_interceptors import (
    AiohttpAuth,
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    Outcome,
    RequestsAuth,
)
from tests.support import OTHER_SECRET, FakeClock, StaticGate
from tests.support.auth_servers import GOOD, METHOD, grpc_server, http_server

Get = Callable[[str, MCPTokenProvider, "list[str] | None"], int]


def with_requests(url: str, provider: MCPTokenProvider, hosts: list[str] | None) -> int:
    auth = RequestsAuth(provider=provider, allowed_hosts=hosts)
    return requests.get(url, auth=auth, timeout=5).status_code


def with_httpx(url: str, provider: MCPTokenProvider, hosts: list[str] | None) -> int:
    auth = HttpxAuth(provider=provider, allowed_hosts=hosts)
    return httpx.get(url, auth=auth).status_code


def with_httpx2(url: str, provider: MCPTokenProvider, hosts: list[str] | None) -> int:
    auth = Httpx2Auth(provider=provider, allowed_hosts=hosts)
    return httpx2.get(url, auth=auth).status_code


def with_aiohttp(url: str, provider: MCPTokenProvider, hosts: list[str] | None) -> int:
    auth = AiohttpAuth(provider=provider, allowed_hosts=hosts)

    async def get() -> int:
        async with aiohttp.ClientSession(middlewares=[auth]) as session, session.get(url) as reply:
            return reply.status

    return asyncio.run(get())


HTTP = pytest.mark.parametrize("get", [with_requests, with_httpx, with_httpx2, with_aiohttp])


@pytest.fixture
def provider(clock: FakeClock) -> MCPTokenProvider:
    """Return a provider whose token is old enough to be renewed after a refusal."""
    provider = MCPTokenProvider(GOOD, gate=StaticGate(), clock=clock)
    provider.token()
    clock.advance(60)
    return provider


@HTTP
def test_a_second_try_over_http(get: Get, provider: MCPTokenProvider) -> None:
    """One call, refused, renewed, tried again, and refused for good."""
    with http_server(replace(GOOD, secret=OTHER_SECRET)) as url:
        assert get(url, provider, None) == 401
        stats = provider.stats()
        assert (stats.mints, stats.retries, stats.refreshes) == (2, 1, 2)
        assert get(url, provider, None) == 401  # too soon for another token
    assert (provider.stats().mints, provider.stats().retries) == (2, 1)


@HTTP
def test_a_host_that_may_not_have_a_token(get: Get, provider: MCPTokenProvider) -> None:
    """It counts as a decision, with its outcome."""
    with http_server(GOOD) as url:
        assert get(url, provider, ["example.com"]) == 401
    assert provider.stats().decisions[Outcome.TARGET_NOT_ALLOWED] == 1
    assert provider.stats().retries == 0


def test_a_second_try_over_grpc(provider: MCPTokenProvider) -> None:
    """As over HTTP."""
    with (
        grpc_server(replace(GOOD, secret=OTHER_SECRET)) as target,
        grpc.insecure_channel(target) as bare,
    ):
        channel = grpc.intercept_channel(bare, GrpcAuthInterceptor(provider=provider))
        call = channel.unary_unary(METHOD, None, None)
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=5)
    stats = provider.stats()
    assert (stats.mints, stats.retries) == (2, 1)
