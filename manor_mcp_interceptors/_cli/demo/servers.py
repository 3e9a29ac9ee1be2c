"""The demo's servers, each on another free loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc

from manor_mcp_interceptors.server.verifier import TokenVerifier
from manor_mcp_interceptors.settings import Settings

from .guestbook import Guestbook
from .http_service import http_service
from .mcp_server import mcp_server
from .search_service.search_service_pb2_grpc import add_SearchServiceServicer_to_server
from .search_servicer import SearchServicer
from .uvicorn_thread import serve


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that has a URL."""

    url: str
    guestbook: Guestbook


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """The gRPC service: one port in clear text, one for channels with local credentials."""

    target: str
    local_target: str
    guestbook: Guestbook


@dataclass(frozen=True, slots=True)
class Servers:
    """All servers, running."""

    http: HttpServer
    mcp: HttpServer
    grpc: GrpcServer


@contextmanager
def start_servers(settings: Settings) -> Iterator[Servers]:
    """Run the servers until the context ends. They accept what `settings` verifies."""
    verifier = TokenVerifier(settings)
    with ExitStack() as stack:
        http_notes, mcp_notes = Guestbook(), Guestbook()
        http = stack.enter_context(serve(http_service(settings, http_notes)))
        mcp = stack.enter_context(serve(mcp_server(verifier, mcp_notes)))
        grpc_server = stack.enter_context(serve_grpc(verifier))
        yield Servers(
            HttpServer(http, http_notes), HttpServer(f"{mcp}/mcp", mcp_notes), grpc_server
        )


@contextmanager
def serve_grpc(verifier: TokenVerifier) -> Iterator[GrpcServer]:
    """Run the gRPC service until the context ends."""
    guestbook = Guestbook()
    with ThreadPoolExecutor(max_workers=4) as workers:
        server = grpc.server(workers)
        servicer = SearchServicer(verifier, guestbook)
        add_SearchServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        credentials = grpc.local_server_credentials(grpc.LocalConnectionType.LOCAL_TCP)
        local_port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield GrpcServer(f"127.0.0.1:{port}", f"127.0.0.1:{local_port}", guestbook)
        finally:
            server.stop(grace=1).wait()
