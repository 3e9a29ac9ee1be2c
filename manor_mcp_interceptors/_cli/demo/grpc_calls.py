"""The calls over gRPC: four kinds, sync, aio, and with call credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import grpc.aio

from manor_mcp_interceptors.client.grpc_aio_channel import grpc_aio_authenticated_channel
from manor_mcp_interceptors.client.grpc_aio_interceptors import grpc_aio_interceptors
from manor_mcp_interceptors.client.grpc_call_credentials import grpc_call_credentials
from manor_mcp_interceptors.client.grpc_channel import grpc_authenticated_channel
from manor_mcp_interceptors.client.grpc_interceptors import GrpcAuthInterceptor

from .report import Call, Report
from .search_service import search_service_pb2 as pb
from .search_service.search_service_pb2_grpc import SearchServiceStub
from .servers import GrpcServer, Servers

TIMEOUT: Final = 5.0
ACCEPTED_KEY: Final = "token-accepted"
OPTIONS: Final = (("grpc.enable_http_proxy", 0),)
"""A proxy that the environment names cannot reach the demo's servers."""


def call_grpc(servers: Servers, report: Report) -> None:
    """Make every kind of call with the sync interceptor, the thin channel, call credentials."""
    with grpc.insecure_channel(servers.grpc.target, OPTIONS) as channel:
        intercepted = grpc.intercept_channel(channel, GrpcAuthInterceptor())
        _call("gRPC", intercepted, servers.grpc, report)
        _call("gRPC channel", grpc_authenticated_channel(channel), servers.grpc, report)
    credentials = grpc.composite_channel_credentials(
        grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP), grpc_call_credentials()
    )
    with grpc.secure_channel(servers.grpc.local_target, credentials, OPTIONS) as channel:
        _call("gRPC credentials", channel, servers.grpc, report)


async def call_grpc_aio(servers: Servers, report: Report) -> None:
    """Make every kind of call with the aio interceptors, then with the thin channel."""
    interceptors = grpc_aio_interceptors()
    async with grpc.aio.insecure_channel(
        servers.grpc.target, options=OPTIONS, interceptors=interceptors
    ) as channel:
        await _call_aio("gRPC aio", channel, servers.grpc, report)
    async with grpc_aio_authenticated_channel(
        grpc.aio.insecure_channel(servers.grpc.target, options=OPTIONS)
    ) as channel:
        await _call_aio("gRPC aio channel", channel, servers.grpc, report)


def _call(transport: str, channel: grpc.Channel, server: GrpcServer, report: Report) -> None:
    stub: Any = SearchServiceStub(channel)  # type: ignore[no-untyped-call]
    with _rpc(report, transport, "unary: list", server) as call:
        _accept(call, [stub.ListTools(pb.ListToolsRequest(), timeout=TIMEOUT)])
    with _rpc(report, transport, "unary: tool", server) as call:
        _accept(call, [stub.InvokeTool(_whoami(), timeout=TIMEOUT)])
    with _rpc(report, transport, "server stream", server) as call:
        _accept(call, list(stub.StreamResults(_search(), timeout=TIMEOUT)))
    with _rpc(report, transport, "client stream", server) as call:
        _accept(call, [stub.IndexDocuments(iter(_documents()), timeout=TIMEOUT)])
    with _rpc(report, transport, "both streams", server) as call:
        _accept(call, list(stub.Session(iter(_conversation()), timeout=TIMEOUT)))


async def _call_aio(
    transport: str, channel: grpc.aio.Channel, server: GrpcServer, report: Report
) -> None:
    stub: Any = SearchServiceStub(channel)  # type: ignore[no-untyped-call]
    with _rpc(report, transport, "unary: list", server) as call:
        _accept(call, [await stub.ListTools(pb.ListToolsRequest(), timeout=TIMEOUT)])
    with _rpc(report, transport, "unary: tool", server) as call:
        _accept(call, [await stub.InvokeTool(_whoami(), timeout=TIMEOUT)])
    with _rpc(report, transport, "server stream", server) as call:
        _accept(call, [r async for r in stub.StreamResults(_search(), timeout=TIMEOUT)])
    with _rpc(report, transport, "client stream", server) as call:
        sent = _when_accepted(lambda: upload, _documents())
        upload = stub.IndexDocuments(sent, timeout=TIMEOUT)
        _accept(call, [await upload])
    with _rpc(report, transport, "both streams", server) as call:
        sent = _when_accepted(lambda: session, _conversation())
        session = stub.Session(sent, timeout=TIMEOUT)
        _accept(call, [response async for response in session])


@contextmanager
def _rpc(report: Report, transport: str, what: str, server: GrpcServer) -> Iterator[Call]:
    with report.call(transport, what, server.guestbook) as call:
        try:
            yield call
        except grpc.RpcError as error:
            call.refuse(error.code().name)


def _accept(call: Call, responses: list[Any]) -> None:
    callers = {response.caller.subject for response in responses}
    size = len(responses)
    call.accept(f"OK, {size} message{'s' if size != 1 else ''}", ", ".join(sorted(callers)))


def _whoami() -> pb.InvokeToolRequest:
    return pb.InvokeToolRequest(name="whoami")


def _search() -> pb.StreamResultsRequest:
    return pb.StreamResultsRequest(query="token")


def _documents() -> list[pb.IndexDocumentsRequest]:
    document = pb.Document(id="demo", title="Demo", text="Indexed by the demo.")
    return [pb.IndexDocumentsRequest(document=document)]


def _conversation() -> list[pb.SessionRequest]:
    return [
        pb.SessionRequest(id="1", invoke_tool=_whoami()),
        pb.SessionRequest(id="2", stream_results=_search()),
    ]


async def _when_accepted(call: Callable[[], Any], requests: list[Any]) -> AsyncIterator[Any]:
    """Yield the requests when the server has accepted the token.

    Without the wait, a refusal may overtake a message, and grpc.aio then reports INTERNAL.
    """
    if ACCEPTED_KEY not in (await call().initial_metadata() or {}):
        await call().code()
        return
    for request in requests:
        yield request
