"""The servers: MCP, FastAPI and gRPC, each of which refuses what it cannot verify."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fastapi import Depends, FastAPI

from manor_mcp_interceptors import TokenVerifier
from manor_mcp_interceptors._cli.demo.guestbook import NO_TOKEN, Guestbook
from manor_mcp_interceptors._cli.demo.mcp_server import mcp_server
from manor_mcp_interceptors._cli.demo.servers import GrpcServer, serve_grpc
from manor_mcp_interceptors._cli.demo.uvicorn_thread import serve
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.reasons import Reason


@dataclass(frozen=True)
class Servers:
    """All servers, running, and what they say of their callers."""

    http: str
    mcp: str
    grpc: GrpcServer
    verifiers: tuple[TokenVerifier, ...]
    guestbooks: tuple[Guestbook, ...]

    def rejections(self) -> dict[str, int]:
        """Return how many calls were refused, by reason, on all servers."""
        total: dict[str, int] = {}
        for verifier in self.verifiers:
            for reason, count in verifier.rejections().items():
                total[reason] = total.get(reason, 0) + count
        return total

    def unauthenticated(self) -> int:
        """Return how many calls carried no token; MCP and gRPC tell only whether there were any."""
        bare = sum(NO_TOKEN in guestbook.read() for guestbook in self.guestbooks)
        return bare + self.rejections().get(Reason.MISSING.value, 0)


def fastapi_service(verifier: TokenVerifier) -> FastAPI:
    """Return a service with one route, for callers with a token."""
    service = FastAPI()

    async def search() -> dict[str, str]:
        return {"found": "nothing"}

    door = Depends(MCPTokenDependency(verifier))
    service.add_api_route("/search", search, methods=["POST"], dependencies=[door])
    return service


@contextmanager
def start_servers(
    verifiers: tuple[TokenVerifier, TokenVerifier, TokenVerifier],
) -> Iterator[Servers]:
    """Run all servers until the context ends."""
    for_http, for_mcp, for_grpc = verifiers
    notes = Guestbook()
    with ExitStack() as stack:
        http = stack.enter_context(serve(fastapi_service(for_http)))
        mcp = stack.enter_context(serve(mcp_server(for_mcp, notes)))
        grpc = stack.enter_context(serve_grpc(for_grpc))
        yield Servers(f"{http}/search", f"{mcp}/mcp", grpc, verifiers, (notes, grpc.guestbook))
