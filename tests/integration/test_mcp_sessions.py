"""Official MCP clients and servers, and FastMCP's, in every pairing, over streamable HTTP."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import fastmcp
import pytest
import time_machine
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token as fastmcp_access_token

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    TokenVerifier,
    mcp_auth,
    mcp_http_client,
)
from manor_mcp_interceptors._cli.demo.guestbook import Guestbook
from manor_mcp_interceptors._cli.demo.mcp_server import mcp_server
from manor_mcp_interceptors._cli.mcp_sdk import HAS_SESSIONLESS, open_session
from tests.support import AUDIENCE, SECRET, StaticGate, legacy_check
from tests.support.asgi_recorder import Recorder
from tests.support.uvicorn_server import serve

pytestmark = pytest.mark.slow

SUBJECT = "service-a"
SETTINGS = Settings(secret=SECRET, subject=SUBJECT)
ROUNDS = 4

Call = Callable[[str], Awaitable[str]]
Connect = Callable[[str, Any], AbstractAsyncContextManager[Call]]


def official_server() -> Any:
    """Return a server of the SDK, checked by `MCPTokenVerifier`."""
    return mcp_server(TokenVerifier(SETTINGS), Guestbook())


def fastmcp_server() -> Any:
    """Return a FastMCP server with FastMCP's verifier, and nothing of this package."""
    verifier = JWTVerifier(
        public_key=SECRET, algorithm="HS256", issuer="manor-internal", audience=AUDIENCE
    )
    server = fastmcp.FastMCP("search", auth=verifier)

    @server.tool
    def whoami() -> str:
        """Return the caller's subject."""
        token = fastmcp_access_token()
        return "nobody" if token is None else str(token.claims["sub"])

    return server.http_app()


@asynccontextmanager
async def official_session(url: str, auth: Any) -> AsyncIterator[Call]:
    """Open a session with the SDK's client, by the ``initialize`` handshake."""
    async with official_client(url, auth, "initialize") as call:
        yield call


@asynccontextmanager
async def official_sessionless(url: str, auth: Any) -> AsyncIterator[Call]:
    """Use the SDK's client in the protocol that has no sessions."""
    async with official_client(url, auth, "discover") as call:
        yield call


@asynccontextmanager
async def official_client(url: str, auth: Any, opening: str) -> AsyncIterator[Call]:
    async with (
        mcp_http_client(auth=auth, trust_env=False) as http,
        open_session(url, http, opening) as (client, _),
    ):

        async def call(tool: str) -> str:
            tools = await client.list_tools()
            assert tool in {t.name for t in tools.tools}
            return text_of(await client.call_tool(tool))

        yield call


@asynccontextmanager
async def fastmcp_session(url: str, auth: Any) -> AsyncIterator[Call]:
    """Open a session with FastMCP's client."""
    async with fastmcp.Client(StreamableHttpTransport(url, auth=auth)) as client:

        async def call(tool: str) -> str:
            assert tool in {t.name for t in await client.list_tools()}
            result = await client.call_tool(tool)
            return text_of(result)

        yield call


def text_of(result: Any) -> str:
    """Return the text that a tool answered, whichever library's result it is."""
    return str(result.content[0].text)


every_server = pytest.mark.parametrize("application", [official_server, fastmcp_server])
CLIENTS: list[Connect] = [official_session, fastmcp_session]
if HAS_SESSIONLESS:
    CLIENTS.append(official_sessionless)
every_client = pytest.mark.parametrize("connect", CLIENTS)


@contextmanager
def running(application: Any) -> Iterator[tuple[str, Recorder]]:
    """Serve `application`; give its URL and the record of what arrives."""
    recorder = Recorder(application)
    with serve(recorder) as url:
        yield f"{url}/mcp", recorder


@every_server
@every_client
def test_every_request_of_an_mcp_session_carries_the_token(
    application: Callable[[], Any], connect: Connect
) -> None:
    """From the handshake to the last notification, each request carries the one token."""
    auth = mcp_auth(provider=MCPTokenProvider(SETTINGS, gate=StaticGate()))

    async def talk(url: str) -> str:
        async with connect(url, auth) as call:
            return await call("whoami")

    with running(application()) as (url, recorder):
        assert asyncio.run(talk(url)) == SUBJECT

    assert len(recorder.tokens()) >= 2
    (token,) = set(recorder.tokens())
    assert legacy_check(token)["sub"] == SUBJECT


@every_server
@every_client
def test_an_mcp_session_without_a_token_is_refused(
    application: Callable[[], Any], connect: Connect
) -> None:
    """With the flag off nothing is sent instead, and the caller gets the error of the client."""
    auth = mcp_auth(provider=MCPTokenProvider(SETTINGS, gate=StaticGate(on=False)))

    async def talk(url: str) -> str:
        async with connect(url, auth) as call:
            return await call("whoami")

    with running(application()) as (url, recorder):
        with pytest.raises(Exception) as refusal:  # noqa: PT011 - each client has its own
            asyncio.run(talk(url))
        assert "manor" not in type(refusal.value).__module__

    assert recorder.authorizations
    assert all(values == [] for values in recorder.authorizations)


def test_sessions_outlive_their_token() -> None:
    """With a lifetime of three seconds, sessions that last longer are never refused.

    The wall clock of the whole process is moved, so that the servers see it too.
    """
    settings = Settings(
        secret=SECRET, subject=SUBJECT, ttl_seconds=3, margin_seconds=1, recheck_seconds=0
    )
    provider = MCPTokenProvider(settings, gate=StaticGate())
    auth = mcp_auth(provider=provider)

    async def talk(urls: list[str], pass_time: Callable[[], None]) -> None:
        async with AsyncExitStack() as stack:
            connections = [connect(url, auth) for url in urls for connect in CLIENTS]
            calls = [await stack.enter_async_context(made) for made in connections]
            for _ in range(ROUNDS):
                for call in calls:
                    assert await call("whoami") == SUBJECT
                pass_time()

    with (
        time_machine.travel(dt.datetime.now(dt.timezone.utc)) as clock,
        running(official_server()) as (one, seen),
        running(fastmcp_server()) as (other, seen_too),
    ):
        asyncio.run(talk([one, other], lambda: clock.shift(4)))

    assert provider.stats().retries == 0
    for recorder in (seen, seen_too):
        assert len(set(recorder.tokens())) >= ROUNDS
