"""gRPC calls of all four kinds, judged by the client's CPU: the wall is the network's."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import grpc

from manor_mcp_interceptors import GrpcAuthInterceptor, grpc_aio_interceptors
from manor_mcp_interceptors.client.grpc_channel import grpc_authenticated_channel

from . import _peers
from ._grpc_server import REQUESTS, SERVICE, grpc_server
from ._harness import Bench, Row, Run, Table, calls, peer
from ._setup import process_wide

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def tables(bench: Bench) -> Iterator[Table]:
    """Compare, kind by kind, metadata by hand, a minimal interceptor and ours."""
    with ExitStack() as stack:
        token = stack.enter_context(process_wide())
        target = stack.enter_context(grpc_server())
        metadata = (("authorization", f"Bearer {token}"),)
        bare = stack.enter_context(grpc.insecure_channel(target))
        minimal = grpc.intercept_channel(bare, MinimalInterceptor(metadata))
        ours = grpc.intercept_channel(bare, GrpcAuthInterceptor())
        thin = grpc_authenticated_channel(bare)
        for kind in KINDS:
            yield bench.compare(
                f"gRPC, sync, {kind}",
                [
                    Row("metadata by hand", call(bare, kind, metadata), "floor"),
                    Row("thin channel", call(thin, kind), "ours", at_most=1.02),
                    Row("a minimal interceptor", call(minimal, kind), "floor"),
                    Row(
                        "GrpcAuthInterceptor",
                        call(ours, kind),
                        "ours",
                        against="a minimal interceptor",
                        at_most=1.05,
                    ),
                ],
                unit="us",
                judged_by="cpu",
            rounds=201,
            )


_Details = namedtuple(
    "_Details", "method timeout metadata credentials wait_for_ready compression"
)


class Details(_Details, grpc.ClientCallDetails):
    """What grpc's own examples pass on."""


class MinimalInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds fixed metadata, as every tutorial shows it: no expiry, no refusal, no flag."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.metadata = metadata

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        changed = Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *self.metadata),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(changed, request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept
    intercept_stream_stream = _intercept


def call(channel: Any, kind: str, metadata: Any = None) -> Run:
    """Return a run of blocking calls of one kind."""
    method = getattr(channel, kind)(f"/{SERVICE}/{kind}")
    request_streams, response_streams = kind.startswith("stream"), kind.endswith("stream")

    def once() -> None:
        response = method(
            iter(REQUESTS) if request_streams else REQUESTS[0], timeout=10, metadata=metadata
        )
        if response_streams:
            for _ in response:
                pass

    return calls(once)
