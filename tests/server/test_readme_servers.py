"""The server examples of the README run: they accept verified callers, and refuse all others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from grpc import _server
from grpc.aio import _server as _aio_server

from manor_mcp_interceptors.server.verifier import Reason
from tests.server.callers import PHRASE, token
from tests.server.http_services import post
from tests.support import SECRET
from tests.support.uvicorn_server import serve

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
METHOD = "/manor.mcp.v1.SearchService/ListTools"


def example(heading: str) -> str:
    """Return the one Python block under a heading of the third level."""
    section = re.split(r"\n##+ ", README.split(f"\n### {heading}\n")[1])[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(block)


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


@pytest.mark.parametrize(
    "heading", ["A FastAPI server", "A Starlette server, or any other on ASGI"]
)
def test_http_servers(heading: str) -> None:
    """The caller is known; without a token, 401."""
    names: dict[str, Any] = {}
    exec(example(heading), names)
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


@pytest.mark.parametrize("heading", ["An MCP server of the official SDK", "A FastMCP server"])
def test_mcp_servers(heading: str) -> None:
    """A tool knows its caller; without a token, 401."""
    names: dict[str, Any] = {}
    exec(example(heading), names)
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
    exec(example("A gRPC server"), {})
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
    exec(example("A grpc.aio server"), {})
    assert found == [(b"service-a", grpc.StatusCode.UNAUTHENTICATED)]


def test_any_other_server() -> None:
    """The verifier by itself."""
    names: dict[str, Any] = {}
    exec(example("Anything else that serves"), names)
    assert names["caller_of"](token()) == "service-a"
    assert names["caller_of"]("nonsense") is None


def test_every_reason_is_explained() -> None:
    """The table of reasons has all of them, in the order of the code."""
    section = README.split("### What a refused caller sees, and what the log says\n")[1]
    section = re.split(r"\n##+ ", section)[0].split("| reason |")[1]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", "".join(rows)) == [reason.value for reason in Reason]
