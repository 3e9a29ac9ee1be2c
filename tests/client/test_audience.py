"""``audience=`` at every adapter: refused where the adapter is made if no server can have it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

import manor_mcp_interceptors as m
from manor_mcp_interceptors import MCPTokenProvider, Settings, SettingsError
from tests.support import SECRET


async def aio_channel(**options: Any) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        m.grpc_aio_authenticated_channel(channel, **options)


def sync_channel(**options: Any) -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        m.grpc_authenticated_channel(channel, **options)


ADAPTERS: dict[str, Callable[..., Any]] = {
    "RequestsAuth": m.RequestsAuth,
    "HttpxAuth": m.HttpxAuth,
    "Httpx2Auth": m.Httpx2Auth,
    "AiohttpAuth": m.AiohttpAuth,
    "mcp_auth": m.mcp_auth,
    "mcp_http_client": m.mcp_http_client,
    "GrpcAuthInterceptor": m.GrpcAuthInterceptor,
    "grpc_aio_interceptors": m.grpc_aio_interceptors,
    "grpc_authenticated_channel": sync_channel,
    "grpc_aio_authenticated_channel": lambda **options: asyncio.run(aio_channel(**options)),
    "grpc_call_credentials": m.grpc_call_credentials,
}


@pytest.mark.parametrize("make", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("audience", ["", " \t", 7, ["search-mcp"]])
def test_an_audience_that_no_server_can_have_is_refused_at_once(
    make: Callable[..., Any], audience: Any
) -> None:
    """With the process-wide provider, and with another one."""
    for provider in (None, MCPTokenProvider(Settings(secret=SECRET))):
        with pytest.raises(SettingsError, match="audience"):
            make(provider=provider, audience=audience)
