"""The client examples run, and the server knows the caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from manor_mcp_interceptors import Settings
from manor_mcp_interceptors._cli.demo.servers import Servers, start_servers
from tests.docs.pages import example
from tests.support import SECRET

pytestmark = pytest.mark.slow

CLIENTS = {
    "The official MCP client": "mcp",
    "FastMCP": "mcp",
    "requests": "http",
    "httpx, sync and async": "http",
    "aiohttp": "http",
    "gRPC": "grpc",
    "grpc.aio": "grpc",
    "gRPC without interception": "grpc",
    "gRPC call credentials": "grpc",
    "Anything else": "http",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Run the demo's servers, which record whom they saw."""
    with start_servers(Settings(secret=SECRET)) as running:
        yield running


@pytest.mark.parametrize("heading", CLIENTS)
def test_each_client_example_runs_and_the_server_knows_the_caller(
    heading: str, servers: Servers, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is printed, but for the address."""
    monkeypatch.setenv("SERVICE_NAME", "a-reader")
    addresses = {
        "http://localhost:8000": servers.http.url,
        "http://localhost:8001/mcp": servers.mcp.url,
        "localhost:50051": servers.grpc.target,
        "localhost:50052": servers.grpc.local_target,
    }
    guestbook = getattr(servers, CLIENTS[heading]).guestbook
    code = example("docs/clients.md", heading)
    for printed, real in addresses.items():
        code = code.replace(printed, real)
    guestbook.read()  # forget earlier callers
    exec(compile(code, heading, "exec"), {"__name__": "__main__"})
    assert guestbook.read() == "a-reader"
