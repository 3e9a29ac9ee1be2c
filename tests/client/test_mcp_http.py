"""`mcp_auth` and `mcp_http_client`: what the installed SDK speaks, against a real MCP server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from typing import Any

import fastmcp
import httpx
import httpx2
import pytest
from fastmcp.client.transports import StreamableHttpTransport
from mcp.server.auth.settings import AuthSettings
from mcp.shared._httpx_utils import create_mcp_http_client
from pydantic import AnyHttpUrl

from manor_mcp_interceptors import (
    Httpx2Auth,
    HttpxAuth,
    Settings,
    TokenUnavailableError,
    TokenVerifier,
    mcp_auth,
    mcp_http_client,
)
from manor_mcp_interceptors._cli.mcp_sdk import MCPServer, open_session
from manor_mcp_interceptors.client import mcp_http
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.support import SECRET, FakeClock
from tests.support.asgi_recorder import Recorder
from tests.support.http_clients import TestProvider
from tests.support.uvicorn_server import serve

SLOW = 7
"""Seconds that a tool takes: longer than the 5 s of a bare `AsyncClient`."""
SDK = create_mcp_http_client()
"""The client that the SDK makes for itself."""
RIGHT, WRONG = (
    (Httpx2Auth, HttpxAuth) if isinstance(SDK, httpx2.AsyncClient) else (HttpxAuth, Httpx2Auth)
)


@pytest.fixture
def provider() -> TestProvider:
    """Return a provider whose tokens a server with a real clock accepts."""
    return TestProvider(FakeClock(wall=time.time()), ttl_seconds=60)


@pytest.fixture
def recorder() -> Recorder:
    """Return an MCP server with a slow tool, and the record of what arrives there."""
    server = MCPServer(
        "search",
        token_verifier=MCPTokenVerifier(TokenVerifier(Settings(secret=SECRET))),
        auth=AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        log_level="CRITICAL",
    )

    @server.tool()
    async def think(seconds: float) -> str:
        """Answer after so many seconds."""
        await asyncio.sleep(seconds)
        return "done"

    return Recorder(server.streamable_http_app())


@pytest.fixture
def url(recorder: Recorder) -> Iterator[str]:
    with serve(recorder) as origin:
        yield f"{origin}/mcp"


async def think(session: Any, seconds: float = 0) -> None:
    result = await session.call_tool("think", {"seconds": seconds})
    assert result.content[0].text == "done"


def test_the_auth_object_is_the_one_that_the_sdk_speaks() -> None:
    """And the client is of the same class as the SDK's own."""
    assert type(mcp_auth()) is RIGHT
    assert type(mcp_http_client()) is type(SDK)


def test_the_client_has_the_time_outs_of_the_sdk() -> None:
    """Unless others are given, as a number or as the library's own type."""
    assert mcp_http_client().timeout == SDK.timeout
    assert mcp_http_client({}, 3).timeout.read == 3
    given = mcp_http_client(headers=None, timeout=SDK.timeout, auth=None)  # as google-adk calls it
    assert given.timeout == SDK.timeout


def test_an_auth_object_that_is_given_is_used() -> None:
    """As by a framework that calls the factory with arguments of its own."""
    auth = mcp_auth(required=True)
    client = mcp_http_client({"x-team": "search"}, None, auth, audience="other-mcp")
    assert client.auth is auth
    assert client.headers["x-team"] == "search"


@pytest.mark.slow
def test_a_slow_tool_and_a_renewed_token_keep_the_session(
    url: str, recorder: Recorder, provider: TestProvider
) -> None:
    """One session from the first call to the last, with two tokens."""

    async def run() -> None:
        async with (
            mcp_http_client(provider=provider, trust_env=False) as http,
            open_session(url, http) as (session, _),
        ):
            await think(session, SLOW)
            provider.clock.advance(31)
            await think(session)

    asyncio.run(run())
    assert len(set(recorder.tokens())) == 2


def test_a_bare_client_has_no_time_for_a_slow_tool() -> None:
    """The reason why this function exists: the library's default is five seconds."""
    assert type(SDK)().timeout.read == 5 < SLOW


def test_it_is_what_fastmcp_takes_as_a_factory(
    url: str, recorder: Recorder, provider: TestProvider
) -> None:
    """FastMCP calls it with ``follow_redirects=``, too."""

    def factory(*args: Any, **kwargs: Any) -> Any:
        return mcp_http_client(*args, provider=provider, **kwargs)

    async def run() -> None:
        transport = StreamableHttpTransport(url, httpx_client_factory=factory)
        async with fastmcp.Client(transport) as client:
            await think(client)

    asyncio.run(run())
    assert set(recorder.tokens()) == {provider.token()}


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_origin_is_followed(
    recorder: Recorder, provider: TestProvider, status: int
) -> None:
    """With every version of the SDK: by its transport, or by the client."""

    async def moved(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/moved":
            await recorder(scope, receive, send)
            return
        headers = [(b"location", b"/mcp"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def run(origin: str) -> None:
        async with (
            mcp_http_client(provider=provider, trust_env=False) as http,
            open_session(f"{origin}/moved", http) as (session, _),
        ):
            await think(session)

    with serve(moved) as origin:
        asyncio.run(run(origin))
    assert set(recorder.tokens()) == {provider.token()}


def test_required_is_passed_on(url: str, recorder: Recorder, provider: TestProvider) -> None:
    """No request leaves without a token."""
    provider.switch_off()

    async def run() -> None:
        async with mcp_http_client(provider=provider, required=True, trust_env=False) as http:
            await http.get(url)

    with pytest.raises(TokenUnavailableError):
        asyncio.run(run())
    assert recorder.authorizations == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: httpx.Client(auth=Httpx2Auth()),  # type: ignore[arg-type]
        lambda: httpx2.Client(auth=HttpxAuth()),  # type: ignore[arg-type]
        lambda: mcp_http_client(auth=WRONG()),
    ],
)
def test_the_wrong_class_is_an_error_that_names_the_right_one(make: Any) -> None:
    """The text is the library's; the object in it says where it belongs."""
    with pytest.raises(TypeError) as error:
        make()
    for name in ("httpx takes HttpxAuth", "httpx2 takes Httpx2Auth", "mcp_auth()"):
        assert name in str(error.value)


@pytest.mark.parametrize("use", [mcp_auth, mcp_http_client])
def test_without_the_sdk_the_error_names_both_extras(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised when the function is called, as `ModuleNotFoundError`."""

    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(mcp_http, "requires", absent)
    with pytest.raises(ModuleNotFoundError) as error:
        use()
    assert error.value.name == "mcp"
    assert f"{use.__name__} needs mcp" in str(error.value)
    assert "'manor-mcp-interceptors[mcp]', or [fastmcp]" in str(error.value)


@pytest.mark.parametrize(
    ("requirements", "library"),
    [
        (["anyio>=4.5", "httpx-sse>=0.4", "httpx<1.0.0,>=0.27.1"], "httpx"),
        (["anyio>=4.9", "httpx2>=2.5.0"], "httpx2"),
    ],
    ids=["mcp 1.30 and 2.0.0b1", "mcp 2.0.0b2"],
)
def test_the_library_is_the_one_that_the_sdk_requires(
    requirements: list[str], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its metadata; the first pre-releases of 2.0 required httpx."""
    monkeypatch.setattr(mcp_http, "requires", lambda name: requirements)
    auth = mcp_auth()
    assert isinstance(auth, import_module(library).Auth)
    assert isinstance(mcp_http_client(), import_module(library).AsyncClient)


def test_neither_the_sdk_nor_the_other_library_is_imported() -> None:
    """`mcp_auth` costs the import of one HTTP library."""
    code = """
import sys
from manor_mcp_interceptors import mcp_auth
print({"httpx", "httpx2"} & set(sys.modules))
mcp_auth()
print(*({"httpx", "httpx2", "mcp"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", RIGHT.library.__name__]
