"""gRPC calls of all four kinds, judged by the client's CPU: the wall is the network's.

Many short samples, far from a garbage collection and each process on a core of its own: that is
what makes thousandths visible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import grpc

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    grpc_aio_authenticated_channel,
    grpc_aio_interceptors,
    grpc_authenticated_channel,
)

from . import _peers
from ._cores import pinned
from ._grpc_minimal import MinimalInterceptor, minimal_aio_interceptors
from ._grpc_server import REQUESTS, SERVICE, grpc_server
from ._harness import Bench, Row, Run, Table, calls, peer
from ._setup import process_wide

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
BY_HAND = "metadata by hand"
MINIMAL = "a minimal interceptor"


def tables(bench: Bench) -> Iterator[Table]:
    """Compare, kind by kind, metadata by hand, a minimal interceptor, and both of ours."""
    with ExitStack() as stack:
        token = stack.enter_context(process_wide())
        core, note = stack.enter_context(pinned())
        target = stack.enter_context(grpc_server(core))
        yield from _sync(bench, target, token, note)
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        yield from _aio(bench, loop, target, token, note)


def _sync(bench: Bench, target: str, token: str, note: str) -> Iterator[Table]:
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(target) as bare:
        minimal = grpc.intercept_channel(bare, MinimalInterceptor(metadata))
        intercepted = grpc.intercept_channel(bare, GrpcAuthInterceptor())
        thin = grpc_authenticated_channel(bare)
        for kind in (*KINDS, "unary_unary.future", "stream_unary.future"):
            rows = [
                Row(BY_HAND, call(bare, kind, metadata), "floor"),
                _thin("grpc_authenticated_channel", call(thin, kind)),
                Row(MINIMAL, call(minimal, kind), "floor"),
                _interceptor("GrpcAuthInterceptor", call(intercepted, kind)),
            ]
            yield _table(bench, f"gRPC, {kind}", rows, note)


def _aio(bench: Bench, loop: Any, target: str, token: str, note: str) -> Iterator[Table]:
    metadata = (("authorization", f"Bearer {token}"),)
    bare = _open(loop, target)
    thin = grpc_aio_authenticated_channel(bare)  # no channel costs quite what another does
    minimal = _open(loop, target, minimal_aio_interceptors(metadata))
    intercepted = _open(loop, target, grpc_aio_interceptors())
    for kind in KINDS:
        rows = [
            Row(BY_HAND, call_aio(loop, bare, kind, metadata), "floor"),
            _thin("grpc_aio_authenticated_channel", call_aio(loop, thin, kind)),
            Row(MINIMAL, call_aio(loop, minimal, kind), "floor"),
            _interceptor("grpc_aio_interceptors()", call_aio(loop, intercepted, kind)),
        ]
        if kind == "unary_unary":  # all that it has
            rows.append(peer("nodii-grpc-auth", lambda: _nodii(loop, target, token)))
        yield _table(bench, f"gRPC aio, {kind}", rows, note)
    for channel in (bare, minimal, intercepted):
        loop.run_until_complete(channel.close())


def _thin(name: str, run: Run) -> Row:
    return Row(name, run, "ours", at_most=1.05)


def _interceptor(name: str, run: Run) -> Row:
    return Row(name, run, "ours", against=MINIMAL, at_most=1.05)


def _table(bench: Bench, title: str, rows: list[Row], note: str) -> Table:
    return bench.compare(
        title,
        rows,
        unit="us",
        judged_by="cpu",
        rounds=801,
        sample_seconds=0.004,
        alike=True,
        notes=(note,),
    )


def call(channel: Any, kind: str, metadata: Any = None) -> Run:
    """Return a run of calls of one kind, each waited for."""
    kind, _, future = kind.partition(".")
    method = getattr(channel, kind)(f"/{SERVICE}/{kind}")
    request_streams, response_streams = kind.startswith("stream"), kind.endswith("stream")

    def once() -> None:
        request = iter(REQUESTS) if request_streams else REQUESTS[0]
        response = (method.future if future else method)(request, timeout=10, metadata=metadata)
        if future:
            response.result()
        if response_streams:
            for _ in response:
                pass

    return calls(once)


def call_aio(loop: Any, channel: Any, kind: str, metadata: Any = None) -> Run:
    """Return a run of calls of one kind, each awaited."""
    method = getattr(channel, kind)(f"/{SERVICE}/{kind}")
    request_streams, response_streams = kind.startswith("stream"), kind.endswith("stream")

    async def many(count: int) -> None:
        for _ in range(count):
            request = iter(REQUESTS) if request_streams else REQUESTS[0]
            response = method(request, timeout=10, metadata=metadata)
            if not response_streams:
                await response
                continue
            async for _part in response:
                pass

    return lambda count: loop.run_until_complete(many(count))


def _open(loop: Any, target: str, interceptors: list[Any] | None = None) -> Any:
    async def make() -> Any:  # a channel belongs to the loop that it is made on
        return grpc.aio.insecure_channel(target, interceptors=interceptors)

    return loop.run_until_complete(make())


def _nodii(loop: Any, target: str, token: str) -> Run:
    client = import_module("nodii_grpc_auth.client")
    options = client.ClientAuthOptions(_peers.nodii_manager(token), "service-search-mcp")
    channel = _open(loop, target, [client.create_client_auth_interceptor(options)])
    return call_aio(loop, channel, "unary_unary")
