"""The bridge: an MCP client without tokens of its own reaches a server that verifies them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors._cli.demo.guestbook import Guestbook
from manor_mcp_interceptors._cli.demo.mcp_server import mcp_server
from tests.cli.running import ROOT, run, run_without
from tests.support import FLAG, SECRET
from tests.support.http_server import HttpServer, refuse
from tests.support.uvicorn_server import serve

AUDIENCE = "the-server-behind"
OUTSIDE = {"Authorization": "Bearer from-outside", "Cookie": "from=outside", "X-Key": "outside"}
ENVIRONMENT = {
    "MCP_AUTH_SECRET": SECRET,
    FLAG.upper(): "on",
    "SERVICE_NAME": "an-editor",
    "MCP_AUTH_TTL_SECONDS": "3",
    "MCP_AUTH_MARGIN_SECONDS": "1",
}


class VerifyingServer:
    """The demo's MCP server, for one audience; keeps the headers of each request."""

    def __init__(self) -> None:
        settings = Settings(secret=SECRET, audience=AUDIENCE)
        self._application = mcp_server(TokenVerifier(settings), Guestbook())
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.refuses = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.headers.append(scope["headers"])
            if self.refuses:
                scope["headers"] = [(b"authorization", b"Bearer refused")]
        await self._application(scope, receive, send)

    def authorizations(self) -> list[bytes]:
        return [v for headers in self.headers for k, v in headers if k == b"authorization"]


@pytest.fixture
def server() -> VerifyingServer:
    return VerifyingServer()


@pytest.fixture
def url(server: VerifyingServer) -> Iterator[str]:
    with serve(server) as base:
        yield f"{base}/mcp"


class RunningBridge:
    """``manor-mcp bridge``, as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.line = process.stdout.readline()
        self.url = self.line.partition(" ")[0]

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Return the exit code and what was written to standard error."""
        self._process.send_signal(number)
        _, errors = self._process.communicate(timeout=20)
        return self._process.returncode, errors

    def call(self, headers: dict[str, str] | None = None) -> str:
        """Return the answer of the tool ``whoami``, or the error that the client got."""
        return asyncio.run(whoami(self.url, headers or {}))

    def failure(self) -> str:
        """Return what a client gets from a bridge whose server fails."""
        with pytest.raises(Exception) as caught:  # noqa: PT011 - a group of the client's
            self.call()
        return "".join(traceback.format_exception(caught.value))


@contextmanager
def bridge_to(url: str) -> Iterator[RunningBridge]:
    command = [sys.executable, "-m", "manor_mcp_interceptors", "bridge", url]
    with subprocess.Popen(
        [*command, "--audience", AUDIENCE],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield RunningBridge(process)
        finally:
            process.kill()


async def whoami(url: str, headers: dict[str, str]) -> str:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
    ):
        return await answer_of(client)


async def answer_of(client: Client) -> str:
    assert [tool.name for tool in (await client.list_tools()).tools] == ["whoami", "search"]
    result = await client.call_tool("whoami", {})
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.slow
def test_calls_outlive_the_token_and_carry_nothing_from_outside(
    server: VerifyingServer, url: str
) -> None:
    """A client with a header of its own: the server gets our tokens and never that header."""
    with bridge_to(url) as bridge:
        assert bridge.line == f"{bridge.url} -> {url}\n"
        assert bridge.call(OUTSIDE) == "an-editor"
        time.sleep(3.1)  # a process has a real clock
        seen = len(server.headers)
        assert bridge.call(OUTSIDE) == "an-editor"
    values = server.authorizations()
    assert len(values) == len(server.headers)
    first, second = set(server.authorizations()[:seen]), set(server.authorizations()[seen:])
    assert not first & second
    sent = {name for headers in server.headers for name, _ in headers}
    assert not sent & {b"cookie", b"x-key"}
    assert b"outside" not in b"".join(values)


@pytest.mark.slow
def test_only_programs_on_this_machine_get_in(url: str) -> None:
    """On 127.0.0.1 and no other address; no page of the web, under whatever name it comes."""
    with bridge_to(url) as bridge:
        port = httpx2.URL(bridge.url).port
        assert port is not None
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port))
        with httpx2.Client() as http:
            rebound = http.post(bridge.url, headers={"Host": "evil.example"})
            page = http.post(bridge.url, headers={"Origin": "https://evil.example"})
        assert (rebound.status_code, page.status_code) == (421, 403)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(url: str, number: signal.Signals) -> None:
    """With exit code 0 and without a word."""
    with bridge_to(url) as bridge:
        assert bridge.call() == "an-editor"
        assert bridge.stop(number) == (0, "")


@pytest.mark.slow
def test_stdio(server: VerifyingServer, url: str) -> None:
    """An editor starts the bridge itself, and speaks with it over its pipes."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "manor_mcp_interceptors", "bridge", url, "--stdio", "--audience", AUDIENCE],
        env=dict(os.environ) | ENVIRONMENT,
        cwd=ROOT,
    )

    async def call() -> str:
        async with Client(stdio_client(parameters), mode="legacy") as client:
            return await answer_of(client)

    assert asyncio.run(call()) == "an-editor"
    assert len(server.authorizations()) == len(server.headers)


@pytest.mark.slow
def test_a_server_that_fails_later_is_named(server: VerifyingServer) -> None:
    """To the client at each call, and once in a minute on standard error."""
    with ExitStack() as running:
        with serve(server) as base:
            bridge = running.enter_context(bridge_to(f"{base}/mcp"))
            assert bridge.call() == "an-editor"
            server.refuses = True
            assert f"{base}/mcp refused the token (401)" in bridge.failure()
            assert f"{base}/mcp refused the token (401)" in bridge.failure()
        assert f"{base}/mcp cannot be reached (ConnectError)" in bridge.failure()
        code, errors = bridge.stop(signal.SIGTERM)
    assert code == 0
    assert errors.count("refused the token (401)") == 1
    assert errors.count("cannot be reached") == 1
    assert "Traceback" not in errors


def test_a_server_that_fails_at_the_start_is_named(env_on: None) -> None:
    """And the command that finds out why; nothing is served."""
    with HttpServer(refuse) as server:
        result = run("bridge", f"http://somebody:hidden@127.0.0.1:{server.port}/mcp")
        text = (
            f"{server.url}/mcp refused the token (401); `manor-mcp doctor --url {server.url}/mcp`"
        )
        assert (result.exit_code, result.stdout) == (1, "")
        assert text in result.stderr
        assert "hidden" not in result.stderr
    result = run("bridge", f"{server.url}/mcp", "--stdio")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be reached (ConnectError); `manor-mcp doctor" in result.stderr


def test_without_a_token_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says why there is none."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    with HttpServer() as server:
        result = run("bridge", f"{server.url}/mcp")
    assert (result.exit_code, result.stdout, server.seen) == (1, "", [])
    assert f"flag {FLAG} is off" in result.stderr


def test_a_port_that_is_taken(env_on: None, server: VerifyingServer) -> None:
    """One line with the system's reason."""
    with serve(server) as base:
        port = base.rpartition(":")[2]
        result = run("bridge", f"{base}/mcp", "--port", port, "--audience", AUDIENCE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be used: Address already in use" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["ftp://example/mcp"], ["http://example/mcp", "--stdio", "--port", "8001"], []]
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2; nothing is served."""
    assert run("bridge", *arguments).exit_code == 2


def test_without_fastmcp() -> None:
    """The line that installs it, and exit code 2."""
    done = run_without("fastmcp", "bridge", "http://a/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "manor-mcp bridge needs fastmcp: pip install 'manor-mcp-interceptors[fastmcp]'\n"
    )
