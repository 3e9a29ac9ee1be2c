"""A server goes away and comes back with a new secret; its clients go on over what they hold.

What a restart leaves of an MCP session is for the server to say. The SDK's servers keep sessions
in memory, and answer ``404 Session not found`` to one from before: no token can help. So the
drill restarts servers without such a memory, in the two ways that the SDK has: the protocol
without sessions, and the handshake with a server of ``stateless_http=True``. The last test shows
the other kind: the session is lost, the token is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from pydantic import AnyHttpUrl

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    Httpx2Auth,
    Settings,
    TokenVerifier,
    grpc_aio_interceptors,
)
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.support import OTHER_SECRET, SECRET, FakeClock, signed_with
from tests.support.asgi_recorder import Recorder
from tests.support.grpc_clients import WatchedProvider
from tests.support.grpc_server import AIO_CALLS, SYNC_CALLS, GrpcServer, expected
from tests.support.uvicorn_server import serve

pytestmark = pytest.mark.slow

WITH_SESSION = "legacy"
WITHOUT_SESSION = "2026-07-28"
RECHECK = 0.5
"""Seconds by the callers' clock, which stands still unless it is told to move."""
TIMEOUT = 10
CHANNEL = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50))

Calls = dict[str, Callable[[], Awaitable[object]]]
"""What a client does in a round; the first call may be made twice."""


class Side:
    """The callers' side of the rotation, or the servers': a file of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_text(SECRET)

    def rotate(self) -> None:
        following = self.file.with_name("next")
        following.write_text(OTHER_SECRET)
        following.replace(self.file)


@dataclass(frozen=True)
class Service:
    """A running server, and the tokens of the requests that it was sent, refused ones too."""

    port: int
    tokens: Callable[[], list[str]]


Start = Callable[[Path, int], AbstractContextManager[Service]]
Connect = Callable[[int, WatchedProvider], AbstractAsyncContextManager[Calls]]


class Arrivals(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Notes the token of every call, before anyone judges it."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        metadata = handler_call_details.invocation_metadata
        (value,) = [value for key, value in metadata if key == "authorization"]
        self.tokens.append(value.removeprefix("Bearer "))
        return continuation(handler_call_details)


@contextmanager
def grpc_service(secret: Path, port: int) -> Iterator[Service]:
    verifier = TokenVerifier(Settings(secret_file=secret))
    arrivals, door = Arrivals(), GrpcAuthServerInterceptor(verifier)
    with GrpcServer(interceptors=[arrivals, door], port=port) as server:
        yield Service(server.port, lambda: arrivals.tokens)


@contextmanager
def mcp_service(secret: Path, port: int, *, stateless: bool = True) -> Iterator[Service]:
    verifier = TokenVerifier(Settings(secret_file=secret))
    server = MCPServer(
        "test",
        token_verifier=MCPTokenVerifier(verifier),
        auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        log_level="CRITICAL",
    )
    server.tool()(echo)
    recorder = Recorder(server.streamable_http_app(stateless_http=stateless))
    with serve(recorder, port=port) as url:
        yield Service(int(url.rpartition(":")[2]), recorder.tokens)


def echo(text: str) -> str:
    """Return the text."""
    return text


@asynccontextmanager
async def grpc_channel(port: int, provider: WatchedProvider) -> AsyncIterator[Calls]:
    """Call in every way there is, over one channel."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL) as bare:
        channel = grpc.intercept_channel(bare, GrpcAuthInterceptor(provider=provider))

        async def call(name: str) -> None:
            answer = SYNC_CALLS[name](channel, timeout=TIMEOUT, wait_for_ready=True)
            assert answer == expected(name)

        yield {name: partial(call, name) for name in SYNC_CALLS}


@asynccontextmanager
async def grpc_aio_channel(port: int, provider: WatchedProvider) -> AsyncIterator[Calls]:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", CHANNEL, interceptors=grpc_aio_interceptors(provider=provider)
    ) as channel:

        async def call(name: str) -> None:
            answer = await AIO_CALLS[name](channel, timeout=TIMEOUT, wait_for_ready=True)
            assert answer == expected(name)

        yield {name: partial(call, name) for name in AIO_CALLS}


@asynccontextmanager
async def mcp_client(port: int, provider: WatchedProvider, *, mode: str) -> AsyncIterator[Calls]:
    async with (
        httpx2.AsyncClient(auth=Httpx2Auth(provider=provider), trust_env=False) as http,
        Client(
            streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http),
            mode=mode,
            cache=None,
        ) as client,
    ):

        async def call(text: str) -> None:
            result = await client.call_tool("echo", {"text": text})
            assert result.content[0].text == text  # type: ignore[union-attr]

        yield {text: partial(call, text) for text in ("one", "two", "three", "four", "five")}


CLIENTS: dict[str, tuple[Start, Connect]] = {
    "gRPC": (grpc_service, grpc_channel),
    "gRPC aio": (grpc_service, grpc_aio_channel),
    "MCP, by handshake": (mcp_service, partial(mcp_client, mode=WITH_SESSION)),
    "MCP, without sessions": (mcp_service, partial(mcp_client, mode=WITHOUT_SESSION)),
}
every_client = pytest.mark.parametrize(("start", "connect"), CLIENTS.values(), ids=CLIENTS.keys())


async def failures(calls: Calls) -> list[str]:
    """Make each call once, one after the other; return those that failed."""
    failed = []
    for name, call in calls.items():
        try:
            await call()
        except Exception as error:  # noqa: PERF203 - each call counts
            failed.append(f"{name}: {error!r}")
    return failed


@pytest.fixture
def callers(tmp_path: Path) -> Side:
    return Side(tmp_path / "callers")


@pytest.fixture
def servers(tmp_path: Path) -> Side:
    return Side(tmp_path / "servers")


@pytest.fixture
def provider(callers: Side) -> WatchedProvider:
    """Return the callers' provider, on a clock that shows the time at which it was made."""
    return WatchedProvider(
        clock=FakeClock(wall=time.time()),
        secret=None,
        secret_file=callers.file,
        recheck_seconds=RECHECK,
    )


@every_client
@pytest.mark.parametrize("healed_by", ["refusal", "recheck"])
def test_no_call_fails(
    start: Start,
    connect: Connect,
    healed_by: str,
    callers: Side,
    servers: Side,
    provider: WatchedProvider,
) -> None:
    """Rotated on both sides while the server is away: none fails, and one at most is doubled."""

    async def drill() -> None:
        async with AsyncExitStack() as stack:
            with start(servers.file, 0) as service:
                calls = await stack.enter_async_context(connect(service.port, provider))
                assert await failures(calls) == []
                assert all(signed_with(token, SECRET) for token in service.tokens())
            servers.rotate()
            callers.rotate()
            if healed_by == "recheck":
                provider.clock.advance(RECHECK)
            with start(servers.file, service.port) as service:
                assert await failures(calls) == []
                assert await failures(calls) == []
                old = [signed_with(token, SECRET) for token in service.tokens()]
                doubled = healed_by == "refusal"
                assert old == [True] * doubled + [False] * 2 * len(calls)
                await stack.aclose()

    asyncio.run(drill())


@every_client
def test_callers_that_are_late(
    start: Start,
    connect: Connect,
    callers: Side,
    servers: Side,
    provider: WatchedProvider,
) -> None:
    """Until their secret is there each call fails, once; from then on none does."""

    async def drill() -> None:
        async with AsyncExitStack() as stack:
            with start(servers.file, 0) as service:
                calls = await stack.enter_async_context(connect(service.port, provider))
                assert await failures(calls) == []
            servers.rotate()
            with start(servers.file, service.port) as service:
                first = dict(list(calls.items())[:1])
                for refused in range(1, 4):
                    assert len(await failures(first)) == 1
                    assert len(service.tokens()) == refused
                callers.rotate()
                assert await failures(calls) == []
                old = [signed_with(token, SECRET) for token in service.tokens()]
                assert old == [True] * 4 + [False] * len(calls)
                await stack.aclose()

    asyncio.run(drill())


@pytest.mark.parametrize("connect", [grpc_channel, grpc_aio_channel])
def test_a_stream_that_comes_first(
    connect: Connect, callers: Side, servers: Side, provider: WatchedProvider
) -> None:
    """It is not replayed: one call fails, the token is renewed for it, and no other call fails."""

    async def drill() -> None:
        async with AsyncExitStack() as stack:
            with grpc_service(servers.file, 0) as service:
                calls = await stack.enter_async_context(connect(service.port, provider))
                assert await failures(calls) == []
            servers.rotate()
            callers.rotate()
            with grpc_service(servers.file, service.port) as service:
                (failed,) = await failures({"stream": calls["unary_stream"]})
                assert "UNAUTHENTICATED" in failed
                await asyncio.to_thread(provider.refused.get, timeout=TIMEOUT)
                assert await failures(calls) == []
                assert len(service.tokens()) == 1 + len(calls)

    asyncio.run(drill())


def test_a_session_that_the_server_forgot(
    callers: Side, servers: Side, provider: WatchedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new token is accepted, the session is not known; the next session is like any other."""
    # The session's open stream would hold up the server's end.
    monkeypatch.setattr("manor_mcp_interceptors._cli.demo.uvicorn_thread.STOP_SECONDS", 0)
    stateful = partial(mcp_service, stateless=False)
    connect = partial(mcp_client, mode=WITH_SESSION)

    async def drill() -> None:
        async with AsyncExitStack() as stack:
            with stateful(servers.file, 0) as service:
                calls = await stack.enter_async_context(connect(service.port, provider))
                assert await failures(calls) == []
            servers.rotate()
            callers.rotate()
            with stateful(servers.file, service.port) as service:
                with pytest.raises(MCPError, match="Session not found"):
                    await calls["one"]()
                assert signed_with(service.tokens()[-1], OTHER_SECRET)
                await stack.aclose()
                async with connect(service.port, provider) as calls:
                    assert await failures(calls) == []

    asyncio.run(drill())
