"""The official MCP client over streamable HTTP: sessions survive refusals and redirects."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

from manor_mcp_interceptors import Settings, TokenVerifier, mcp_http_client
from manor_mcp_interceptors._cli.mcp_sdk import MCPServer, open_session
from manor_mcp_interceptors.client.mcp_http import http_library
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.support import OTHER_SECRET, SECRET, FakeClock
from tests.support.http_clients import TestProvider, bearer
from tests.support.http_server import HttpServer, refuse
from tests.support.uvicorn_server import serve

PATIENCE = 20.0
CROWD = 20


class GuardedServer:
    """An MCP server that can refuse and redirect, and records each request."""

    def __init__(self, settings: Settings) -> None:
        self.refused: set[str] = set()
        self.location: str | None = None
        self.seen: list[tuple[str, str, str | None]] = []
        self.streams_open = 0
        self.stream_opened = threading.Event()
        self.crowd = 0
        self._all_here = asyncio.Event()
        server = MCPServer(
            "test",
            token_verifier=MCPTokenVerifier(TokenVerifier(settings)),
            auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
            log_level="CRITICAL",
        )
        server.tool()(self.echo)
        server.tool()(self.meet)
        self._application = server.streamable_http_app()

    def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def meet(self) -> str:
        """Answer when `CROWD` calls are here at the same time."""
        self.crowd += 1
        if self.crowd == CROWD:
            self._all_here.set()
        await asyncio.wait_for(self._all_here.wait(), PATIENCE)
        return "met"

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        value = dict(scope["headers"]).get(b"authorization")
        authorization = None if value is None else value.decode()
        self.seen.append((scope["method"], scope["path"], authorization))
        if authorization in self.refused:
            await _answer(send, 401, [(b"www-authenticate", b"Bearer")])
        elif scope["path"] == "/moved":
            assert self.location is not None
            await _answer(send, 307, [(b"location", self.location.encode())])
        elif scope["method"] == "GET":
            self.streams_open += 1
            self.stream_opened.set()
            try:
                await self._application(scope, receive, send)
            finally:
                self.streams_open -= 1
        else:
            await self._application(scope, receive, send)

    def tokens(self, path: str = "/mcp") -> list[str | None]:
        return [value for _, where, value in self.seen if where == path]


async def _answer(
    send: Callable[..., Awaitable[None]], status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    headers = [*headers, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def guarded(secret_file: Path) -> GuardedServer:
    return GuardedServer(Settings(secret_file=secret_file, recheck_seconds=0))


@pytest.fixture
def url(guarded: GuardedServer) -> Iterator[str]:
    with serve(guarded) as base:
        yield base


@pytest.fixture
def provider() -> TestProvider:
    """Return a provider whose tokens a server with a real clock accepts."""
    return TestProvider(FakeClock(wall=time.time()))


@asynccontextmanager
async def session(url: str, provider: TestProvider) -> AsyncIterator[ClientSession]:
    async with (
        mcp_http_client(provider=provider, trust_env=False) as http,
        open_session(url, http) as (client, _),
    ):
        yield client


async def echo(client: ClientSession, text: str) -> str:
    result = await client.call_tool("echo", {"text": text})
    return str(result.content[0].text)  # type: ignore[union-attr]


async def stream_is_open(guarded: GuardedServer) -> None:
    """Wait for the session's GET, which the client sends in the background."""
    assert await asyncio.to_thread(guarded.stream_opened.wait, PATIENCE)


def test_a_session_survives_a_refusal(
    guarded: GuardedServer, url: str, provider: TestProvider
) -> None:
    """The call is repeated with a new token in the same session; the open stream stays open."""

    async def run() -> None:
        async with session(f"{url}/mcp", provider) as client:
            await stream_is_open(guarded)
            assert await echo(client, "before") == "before"
            old = bearer(provider.token())
            provider.clock.advance(31)
            guarded.refused.add(old)
            seen = len(guarded.seen)
            assert await echo(client, "after") == "after"
            new = bearer(provider.token())
            assert new != old
            assert [value for *_, value in guarded.seen[seen:]] == [old, new]
            assert guarded.streams_open == 1
            assert await echo(client, "again") == "again"
            assert [value for *_, value in guarded.seen[seen + 2 :]] == [new]

    asyncio.run(run())
    posts = [value for method, _, value in guarded.seen if method == "POST"]
    assert None not in posts


def test_a_session_survives_a_rotated_secret(
    guarded: GuardedServer, url: str, secret_file: Path
) -> None:
    """The first refused call makes the client read the file; no call fails, one is sent twice."""
    clock = FakeClock(wall=time.time())  # the client would not recheck by itself
    provider = TestProvider(clock, secret=None, secret_file=secret_file)

    async def run() -> None:
        async with session(f"{url}/mcp", provider) as client:
            assert await echo(client, "before") == "before"
            old = provider.token()
            replacement = secret_file.with_name("next")
            replacement.write_text(OTHER_SECRET)
            replacement.replace(secret_file)
            seen = len(guarded.seen)
            for text in ("first", "second", "third"):
                assert await echo(client, text) == text
            new = bearer(provider.token())
            assert [value for *_, value in guarded.seen[seen:]] == [bearer(old), new, new, new]

    asyncio.run(run())


def test_calls_of_a_session_overlap(
    guarded: GuardedServer, url: str, provider: TestProvider
) -> None:
    """Twenty at once, each answered only when all are there, with an open stream."""

    async def run() -> None:
        async with session(f"{url}/mcp", provider) as client:
            await stream_is_open(guarded)
            results = await asyncio.gather(*(client.call_tool("meet") for _ in range(CROWD)))
            assert {result.content[0].text for result in results} == {"met"}  # type: ignore[union-attr]
            assert guarded.streams_open == 1

    asyncio.run(run())
    assert guarded.crowd == CROWD


def test_a_session_behind_a_redirect(
    guarded: GuardedServer, url: str, provider: TestProvider
) -> None:
    """Within the origin every hop carries a fresh token, also after a refusal."""
    guarded.location = f"{url}/mcp"

    async def run() -> None:
        async with session(f"{url}/moved", provider) as client:
            assert await echo(client, "before") == "before"
            old = bearer(provider.token())
            provider.clock.advance(31)
            guarded.refused.add(old)
            seen = len(guarded.seen)
            assert await echo(client, "after") == "after"
            new = bearer(provider.token())
            hops = [(path, value) for _, path, value in guarded.seen[seen:]]
            assert hops == [("/moved", old), ("/moved", new), ("/mcp", new)]

    asyncio.run(run())
    assert None not in guarded.tokens("/moved") + guarded.tokens("/mcp")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_to_another_origin_carries_no_token(
    guarded: GuardedServer, url: str, provider: TestProvider, host: str
) -> None:
    """The client does not follow it."""
    with HttpServer(refuse) as stranger:
        guarded.location = f"http://{host}:{stranger.port}/mcp"

        async def run() -> None:
            async with session(f"{url}/moved", provider):
                pass

        with pytest.raises(Exception, match="TaskGroup"):
            asyncio.run(run())
        assert set(stranger.tokens) <= {None}
    assert provider.refused == []


def test_an_upgrade_to_https_that_the_mcp_client_follows_carries_the_token(
    provider: TestProvider,
) -> None:
    """It is the same endpoint for the mcp client, as for requests and httpx."""
    seen: list[tuple[str, str | None]] = []
    library = import_module(http_library("the test"))

    def answer(request: Any) -> Any:
        seen.append((str(request.url), request.headers.get("authorization")))
        if request.url.scheme == "http":
            return library.Response(307, headers={"location": "https://mcp.example/mcp"})
        return library.Response(401)

    async def run() -> None:
        async with (
            mcp_http_client(provider=provider, transport=library.MockTransport(answer)) as http,
            open_session("http://mcp.example/mcp", http),
        ):
            pass

    with pytest.raises(Exception, match="TaskGroup"):
        asyncio.run(run())
    assert seen[:2] == [
        ("http://mcp.example/mcp", bearer(provider.token())),
        ("https://mcp.example/mcp", bearer(provider.token())),
    ]
