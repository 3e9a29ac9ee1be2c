"""The server examples run: they accept verified callers, and refuse all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import jwt
import pytest
from fastapi import Depends, FastAPI
from grpc import _server
from grpc.aio import _server as _aio_server

from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.fastapi_dependency import admit_mcp_token
from tests.docs.pages import example
from tests.server.callers import PHRASE, token
from tests.server.http_services import post
from tests.support import SECRET
from tests.support.uvicorn_server import serve

pytestmark = pytest.mark.slow

METHOD = "/manor.mcp.v1.SearchService/ListTools"
HTTP = [
    "A FastAPI server",
    "A FastAPI router or application",
    "A Starlette server",
    "Any ASGI application",
]
MCP = ["An MCP server of the official SDK", "A FastMCP server"]
MCP_MIDDLEWARE = "A middleware around an MCP server"
SERVERS = [
    *HTTP,
    *MCP,
    MCP_MIDDLEWARE,
    "A gRPC server",
    "A grpc.aio server",
    "Anything else that serves",
    "A check that you have already",
]


def run(heading: str) -> dict[str, Any]:
    """Run the example of a server; return what it defines."""
    names: dict[str, Any] = {}
    exec(compile(example("docs/servers.md", heading), heading, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the server as a reader would."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)


def get(url: str, headers: dict[str, str]) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("GET", parts.path, headers=headers)
    response = connection.getresponse()
    status, body = response.status, response.read().decode()
    connection.close()
    return status, body


@pytest.mark.parametrize("heading", HTTP)
def test_http_servers(heading: str) -> None:
    """The caller is known; without a token, 401."""
    names = run(heading)
    with serve(names["app"]) as url:
        assert get(f"{url}/whoami", {"Authorization": f"Bearer {token()}"}) == (
            200,
            '{"caller":"service-a"}',
        )
        assert get(f"{url}/whoami", {}) == (401, f'{{"detail":"{PHRASE}"}}')


WHOAMI = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "whoami", "arguments": {}},
}


@pytest.mark.parametrize("heading", [*MCP, MCP_MIDDLEWARE])
def test_mcp_servers(heading: str) -> None:
    """A tool knows its caller; without a token, 401."""
    names = run(heading)
    with serve(names["app"]) as url:
        session = post(f"{url}/mcp", [f"Bearer {token()}"]).session
        answer = post(f"{url}/mcp", [f"Bearer {token()}"], WHOAMI, session)
        assert "service-a" in answer.body
        assert post(f"{url}/mcp", []).status == 401


def ask(port: int) -> tuple[bytes, grpc.StatusCode]:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)  # type: ignore[call-arg]
        answer = call(b"", metadata=[("authorization", f"Bearer {token()}")], timeout=10)
        with pytest.raises(grpc.RpcError) as refusal:
            call(b"", timeout=10)
    return answer, refusal.value.code()


def on_a_free_port(monkeypatch: pytest.MonkeyPatch, server: type) -> list[int]:
    """Make servers listen on a free port; return the list that its number is added to."""
    ports: list[int] = []
    real: Callable[..., int] = server.add_insecure_port  # type: ignore[attr-defined]

    def free(self: Any, _: str) -> int:
        ports.append(real(self, "localhost:0"))
        return ports[0]

    monkeypatch.setattr(server, "add_insecure_port", free)
    return ports


def test_the_grpc_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler knows its caller; without a token, UNAUTHENTICATED."""
    ports = on_a_free_port(monkeypatch, _server._Server)
    found: list[Any] = []

    def asked(self: Any) -> None:
        found.append(ask(ports[0]))
        self.stop(None).wait()

    monkeypatch.setattr(_server._Server, "wait_for_termination", asked)
    run("A gRPC server")
    assert found == [(b"service-a", grpc.StatusCode.UNAUTHENTICATED)]


def test_the_grpc_aio_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on asyncio."""
    server = _aio_server.Server
    ports = on_a_free_port(monkeypatch, server)
    found: list[Any] = []

    async def asked(self: Any) -> None:
        found.append(await asyncio.to_thread(ask, ports[0]))
        await self.stop(None)

    monkeypatch.setattr(server, "wait_for_termination", asked)
    run("A grpc.aio server")
    assert found == [(b"service-a", grpc.StatusCode.UNAUTHENTICATED)]


def test_any_other_server() -> None:
    """The verifier by itself."""
    names = run("Anything else that serves")
    assert names["caller_of"](token()) == "service-a"
    assert names["caller_of"]("nonsense") is None


def test_a_check_with_pyjwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newline at the end of the secret's file is no part of the secret."""
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n")
    monkeypatch.delenv("MCP_AUTH_SECRET")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path / "secret.txt"))
    names = run("A check that you have already")
    assert names["caller_of"](token()) == "service-a"
    with pytest.raises(jwt.InvalidAudienceError):
        names["caller_of"](token(aud="other-mcp"))


def test_dependencies_of_a_fastapi_application_leave_some_paths_open() -> None:
    """As the page warns; the middleware closes them."""
    app = FastAPI(dependencies=[Depends(admit_mcp_token)])
    app.mount("/mounted", FastAPI())
    app.get("/route")(lambda: None)
    closed = TokenAuthMiddleware(app)
    paths = ["/route", "/mounted/docs", "/docs", "/redoc", "/openapi.json"]
    with serve(app) as url, serve(closed) as closed_url:
        assert [get(f"{url}{path}", {})[0] for path in paths] == [401, 200, 200, 200, 200]
        assert {get(f"{closed_url}{path}", {})[0] for path in paths} == {401}


@pytest.mark.parametrize("heading", MCP)
def test_mcp_servers_read_the_first_of_two_headers(heading: str) -> None:
    """As the page warns."""
    names = run(heading)
    good, bad = f"Bearer {token()}", "Bearer nonsense"
    with serve(names["app"]) as url:
        assert post(f"{url}/mcp", [good, bad]).status == 200
        assert post(f"{url}/mcp", [bad, good]).status == 401


def test_the_middleware_of_mcp_servers_refuses_two_headers() -> None:
    """As the page says."""
    with serve(run(MCP_MIDDLEWARE)["app"]) as url:
        assert post(f"{url}/mcp", [f"Bearer {token()}"] * 2).status == 401


def test_what_observe_mode_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table says which adapters follow it; their examples know nobody then."""
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", "observe")
    strict, *following = HTTP
    following.remove("A Starlette server")  # its handler takes a verified user for granted
    for heading in following:
        with serve(run(heading)["app"]) as url:
            assert get(f"{url}/whoami", {}) == (200, '{"caller":"nobody"}'), heading
    with serve(run(strict)["app"]) as url:
        assert get(f"{url}/whoami", {})[0] == 401
    with serve(run(MCP_MIDDLEWARE)["app"]) as url:
        assert post(f"{url}/mcp", []).status == 200
