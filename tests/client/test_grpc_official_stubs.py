from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from mcp_grpc_transport_proto import (  # type: ignore[import-untyped]
    mcp_messages_pb2,
    mcp_pb2_grpc,
)

from tests.support.grpc_clients import WatchedProvider, aio_channel, bearer, sync_channel

PROTOCOL = ("mcp-protocol-version", "2025-11-25")


class Service(mcp_pb2_grpc.McpServicer):  # type: ignore[misc]
    """The MCP service over gRPC; it lists no tools, and notes who asked."""

    def __init__(self) -> None:
        self.authorization: list[list[Any]] = []
        self.refused: str | None = None

    def ListTools(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        values = [v for key, v in context.invocation_metadata() if key == "authorization"]
        self.authorization.append(values)
        if self.refused in values:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        assert PROTOCOL in [tuple(entry) for entry in context.invocation_metadata()]
        return mcp_messages_pb2.ListToolsResponse()


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = Service()
    mcp_pb2_grpc.add_McpServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("mode", ["sync", "aio", "sync thin", "aio thin"])
@pytest.mark.parametrize("on", [True, False])
def test_the_official_client(mode: str, on: bool, service: tuple[Service, str]) -> None:
    """The official stubs, which register their methods, carry the token and heal a refusal."""
    servicer, target = service
    provider = WatchedProvider(on=on)
    old = provider.grow_stale() if on else None
    servicer.refused = bearer(old)
    request = mcp_messages_pb2.ListToolsRequest()
    if mode.startswith("sync"):
        with grpc.insecure_channel(target) as bare:
            channel = sync_channel(mode, bare, provider=provider)
            answer = mcp_pb2_grpc.McpStub(channel).ListTools(
                request, metadata=[PROTOCOL], timeout=10
            )
    else:

        async def main() -> Any:
            async with aio_channel(mode, target, provider=provider) as channel:
                stub = mcp_pb2_grpc.McpStub(channel)
                return await stub.ListTools(request, metadata=[PROTOCOL], timeout=10)

        answer = asyncio.run(main())
    assert isinstance(answer, mcp_messages_pb2.ListToolsResponse)
    new = bearer(provider.token())
    assert servicer.authorization == ([[bearer(old)], [new]] if on else [[]])
