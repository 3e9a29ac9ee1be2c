"""The callers: a loop for each adapter, on threads of their own and on one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final

import grpc
import grpc.aio
import httpx
import httpx2
import requests
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    RequestsAuth,
    grpc_aio_authenticated_channel,
    grpc_aio_interceptors,
    grpc_authenticated_channel,
    grpc_call_credentials,
)
from manor_mcp_interceptors._cli.demo.grpc_calls import OPTIONS
from manor_mcp_interceptors._cli.demo.search_service import search_service_pb2 as pb
from manor_mcp_interceptors._cli.demo.search_service.search_service_pb2_grpc import (
    SearchServiceStub,
)

from .servers import Servers

PAUSE: Final = 0.02
"""Seconds between two calls of one caller: a soak, not a benchmark."""
TIMEOUT: Final = 30.0

Once = Callable[[], None]
OnceAsync = Callable[[], Awaitable[None]]


class Tally:
    """What the callers made of it. Thread-safe."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, transport: str, failure: BaseException | None = None) -> None:
        """Count a call, and what went wrong with it."""
        with self._lock:
            self.calls[transport] += 4 if transport.startswith("gRPC") else 1  # one of each kind
            if failure is not None:
                self.failures[
                    f"{transport}: {type(failure).__name__} {str(failure).splitlines()[:1]}"
                ] += 1


def run_callers(servers: Servers, tally: Tally, stop: threading.Event) -> list[threading.Thread]:
    """Start every caller; they end when `stop` is set."""
    loops: list[Callable[[], None]] = [
        lambda make=make, name=name: _loop(name, make, servers, tally, stop)  # type: ignore[misc]
        for name, make in SYNC.items()
    ]
    loops.append(lambda: asyncio.run(_event_loop(servers, tally, stop)))
    threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    return threads


def _loop(
    name: str,
    make: Callable[[ExitStack, Servers], Once],
    servers: Servers,
    tally: Tally,
    stop: threading.Event,
) -> None:
    with ExitStack() as stack:
        once = make(stack, servers)
        while not stop.wait(PAUSE):
            try:
                once()
            except Exception as error:  # noqa: PERF203 - the next call is another one
                tally.count(name, error)
            else:
                tally.count(name)


def _http(client: Any, servers: Servers) -> Once:
    def once() -> None:
        client.post(servers.http, json={"q": 1}, timeout=TIMEOUT).raise_for_status()

    return once


def _requests(stack: ExitStack, servers: Servers) -> Once:
    session = stack.enter_context(requests.Session())
    session.trust_env = False
    session.auth = RequestsAuth()
    return _http(session, servers)


def _httpx(stack: ExitStack, servers: Servers) -> Once:
    client = httpx.Client(auth=HttpxAuth(), trust_env=False)
    return _http(stack.enter_context(client), servers)


def _httpx2(stack: ExitStack, servers: Servers) -> Once:
    client = httpx2.Client(auth=Httpx2Auth(), trust_env=False)
    return _http(stack.enter_context(client), servers)


def _all_kinds(channel: grpc.Channel) -> Once:
    stub: Any = SearchServiceStub(channel)  # type: ignore[no-untyped-call]

    def once() -> None:
        stub.ListTools(pb.ListToolsRequest(), timeout=TIMEOUT)
        list(stub.StreamResults(pb.StreamResultsRequest(query="token"), timeout=TIMEOUT))
        stub.IndexDocuments(iter(_documents()), timeout=TIMEOUT)
        list(stub.Session(iter(_conversation()), timeout=TIMEOUT))

    return once


def _documents() -> list[pb.IndexDocumentsRequest]:
    document = pb.Document(id="soak", title="Soak", text="Indexed by the soak.")
    return [pb.IndexDocumentsRequest(document=document)]


def _conversation() -> list[pb.SessionRequest]:
    return [pb.SessionRequest(id="1", invoke_tool=pb.InvokeToolRequest(name="whoami"))]


def _grpc(stack: ExitStack, servers: Servers) -> Once:
    channel = stack.enter_context(grpc.insecure_channel(servers.grpc.target, OPTIONS))
    return _all_kinds(grpc.intercept_channel(channel, GrpcAuthInterceptor()))


def _grpc_thin(stack: ExitStack, servers: Servers) -> Once:
    channel = grpc.insecure_channel(servers.grpc.target, OPTIONS)
    return _all_kinds(stack.enter_context(grpc_authenticated_channel(channel)))


def _grpc_credentials(stack: ExitStack, servers: Servers) -> Once:
    local = grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)
    credentials = grpc.composite_channel_credentials(local, grpc_call_credentials())
    target = servers.grpc.local_target
    return _all_kinds(stack.enter_context(grpc.secure_channel(target, credentials, OPTIONS)))


SYNC: Final[dict[str, Callable[[ExitStack, Servers], Once]]] = {
    "requests": _requests,
    "httpx": _httpx,
    "httpx2": _httpx2,
    "gRPC": _grpc,
    "gRPC thin channel": _grpc_thin,
    "gRPC call credentials": _grpc_credentials,
}


async def _event_loop(servers: Servers, tally: Tally, stop: threading.Event) -> None:
    async with AsyncExitStack() as stack:
        callers = {name: await make(stack, servers) for name, make in ASYNC.items()}

        async def loop(name: str, once: OnceAsync) -> None:
            while not stop.is_set():
                try:
                    await once()
                except Exception as error:
                    tally.count(name, error)
                else:
                    tally.count(name)
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(loop(name, once) for name, once in callers.items()))


def _http_async(client: Any, servers: Servers) -> OnceAsync:
    async def once() -> None:
        response = await client.post(servers.http, json={"q": 1}, timeout=TIMEOUT)
        response.raise_for_status()

    return once


async def _httpx_async(stack: AsyncExitStack, servers: Servers) -> OnceAsync:
    client = httpx.AsyncClient(auth=HttpxAuth(), trust_env=False)
    return _http_async(await stack.enter_async_context(client), servers)


async def _httpx2_async(stack: AsyncExitStack, servers: Servers) -> OnceAsync:
    client = httpx2.AsyncClient(auth=Httpx2Auth(), trust_env=False)
    return _http_async(await stack.enter_async_context(client), servers)


async def _mcp(stack: AsyncExitStack, servers: Servers) -> OnceAsync:
    http = httpx2.AsyncClient(auth=Httpx2Auth(), trust_env=False, timeout=TIMEOUT)
    await stack.enter_async_context(http)
    transport = streamable_http_client(servers.mcp, http_client=http)
    client = await stack.enter_async_context(Client(transport, mode="legacy", cache=None))

    async def once() -> None:
        result = await client.call_tool("whoami")
        if result.is_error:
            raise RuntimeError("the tool failed")

    return once


async def _grpc_aio(stack: AsyncExitStack, servers: Servers) -> OnceAsync:
    channel = grpc.aio.insecure_channel(
        servers.grpc.target, options=OPTIONS, interceptors=grpc_aio_interceptors()
    )
    return _all_kinds_async(await stack.enter_async_context(channel))


async def _grpc_aio_thin(stack: AsyncExitStack, servers: Servers) -> OnceAsync:
    channel = grpc.aio.insecure_channel(servers.grpc.target, options=OPTIONS)
    thin = grpc_aio_authenticated_channel(channel)
    return _all_kinds_async(await stack.enter_async_context(thin))


def _all_kinds_async(channel: grpc.aio.Channel) -> OnceAsync:
    stub: Any = SearchServiceStub(channel)  # type: ignore[no-untyped-call]

    async def each(requests: list[Any]) -> AsyncIterator[Any]:
        for request in requests:
            yield request

    async def once() -> None:
        await stub.ListTools(pb.ListToolsRequest(), timeout=TIMEOUT)
        found = stub.StreamResults(pb.StreamResultsRequest(query="token"), timeout=TIMEOUT)
        async for _ in found:
            pass
        await stub.IndexDocuments(each(_documents()), timeout=TIMEOUT)
        async for _ in stub.Session(each(_conversation()), timeout=TIMEOUT):
            pass

    return once


ASYNC: Final[dict[str, Callable[[AsyncExitStack, Servers], Awaitable[OnceAsync]]]] = {
    "httpx async": _httpx_async,
    "httpx2 async": _httpx2_async,
    "MCP session": _mcp,
    "gRPC aio": _grpc_aio,
    "gRPC aio thin channel": _grpc_aio_thin,
}


def transports() -> Iterator[str]:
    """Return the names of all callers."""
    yield from SYNC
    yield from ASYNC
