"""What only aiohttp has: middlewares that run for each redirect, payloads, WebSockets, proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from manor_mcp_interceptors import AiohttpAuth, Outcome, TokenUnavailableError
from manor_mcp_interceptors._decision.decision import Decision
from tests.support.http_clients import TIMEOUT, TestProvider, aiohttp_session, bearer
from tests.support.http_server import (
    BIG,
    Answer,
    Certificate,
    HttpServer,
    ok,
    redirect,
    refuse,
    refusing,
)


@pytest.fixture
def stranger() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


Work = Callable[[aiohttp.ClientSession], Awaitable[Any]]
LARGE = 20_000_000
"""Bytes of a file that is still being sent when the server refuses it."""
CREDENTIALS = "Basic dXNlcjpwYXNzd29yZA=="


def in_session(*middlewares: Any, work: Work, **options: Any) -> Any:
    """Return what `work` returns, which is given a session."""

    async def run() -> Any:
        async with aiohttp_session(*middlewares, **options) as session:
            return await work(session)

    return asyncio.run(run())


Call = Callable[[aiohttp.ClientSession], Awaitable[int]]


def request(method: str, url: str, **options: Any) -> Call:
    """Return the work of one request, which returns the status."""

    async def work(session: aiohttp.ClientSession) -> int:
        async with session.request(method, url, **options) as reply:
            await reply.read()
            return reply.status

    return work


get = partial(request, "GET")
post = partial(request, "POST")


async def in_another_task(request: Any, handler: Any) -> Any:
    """Be a middleware with a time-out, as `asyncio.wait_for` is up to Python 3.11."""
    return await asyncio.create_task(handler(request))


@pytest.mark.parametrize("outer", [(), (in_another_task,)])
@pytest.mark.parametrize("total", [None, 20])
def test_a_call_that_left_its_origin_gets_no_token_any_more(
    outer: tuple[Any, ...],
    total: float | None,
    server: HttpServer,
    stranger: HttpServer,
    provider: TestProvider,
) -> None:
    """Not even when it is back and is redirected there: its URL is the other origin's choice."""
    stranger.rule = lambda _: redirect(f"{server.url}/back")
    ways = {"/start": redirect("/on"), "/on": redirect(stranger.url), "/back": redirect("/end")}
    server.rule = lambda seen: ways.get(seen.path) or ok(seen)
    work = get(f"{server.url}/start", timeout=aiohttp.ClientTimeout(total))
    assert in_session(*outer, AiohttpAuth(provider=provider), work=work) == 200
    assert server.paths == ["GET /start", "GET /on", "GET /back", "GET /end"]
    assert server.tokens == [bearer(provider.token())] * 2 + [None, None]
    assert stranger.tokens == [None]


def test_a_redirect_that_another_middleware_has_asked_for_twice(
    server: HttpServer, stranger: HttpServer, provider: TestProvider
) -> None:
    """The end of the first response does not make the call look like a new one."""
    server.rule = lambda _: redirect(stranger.url)

    async def twice(request: Any, handler: Any) -> Any:
        first = await handler(request)
        second = await handler(request)
        first.close()
        return second

    assert in_session(twice, AiohttpAuth(provider=provider), work=get(server.url)) == 200
    assert server.tokens == [bearer(provider.token())] * 2
    assert stranger.tokens == [None, None]


def test_calls_that_are_redirected_at_once_are_independent(
    server: HttpServer, stranger: HttpServer, provider: TestProvider
) -> None:
    """Direct calls to the target of a redirect have their token, the redirected ones none."""
    server.rule = lambda _: redirect(f"{stranger.url}/redirected")

    async def work(session: aiohttp.ClientSession) -> None:
        urls = [server.url, f"{stranger.url}/direct"] * 10
        await asyncio.gather(*(get(url)(session) for url in urls))

    in_session(AiohttpAuth(provider=provider), work=work)
    seen = {(call.path, call.authorization) for call in stranger.seen}
    assert seen == {("/redirected", None), ("/direct", bearer(provider.token()))}
    assert len(stranger.seen) == 20


def test_a_redirect_that_is_not_followed_ends_the_call(
    server: HttpServer, stranger: HttpServer, provider: TestProvider
) -> None:
    """What the application then sends is a call of its own, in the same task too."""
    server.rule = lambda _: redirect(stranger.url)

    async def work(session: aiohttp.ClientSession) -> None:
        async with session.get(server.url, allow_redirects=False) as reply:
            await get(reply.headers["Location"])(session)

    in_session(AiohttpAuth(provider=provider), work=work)
    assert stranger.tokens == [bearer(provider.token())]


def test_a_required_token_stops_a_redirect_to_another_origin(
    server: HttpServer, stranger: HttpServer, provider: TestProvider
) -> None:
    """A call that requires a token is not continued without one."""
    server.rule = lambda _: redirect(stranger.url)
    auth = AiohttpAuth(provider=provider, required=True)
    with pytest.raises(TokenUnavailableError) as caught:
        in_session(auth, work=get(server.url))
    assert caught.value.outcome is Outcome.TARGET_NOT_ALLOWED
    assert (len(server.seen), stranger.seen) == (1, [])


class Resolver(AbstractResolver):
    """Leads the default ports of every host to servers of a test."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[Any]:
        found = {"hostname": host, "host": "127.0.0.1", "port": self._ports[port]}
        return [{**found, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is open."""


def test_an_upgrade_to_https_gets_no_token(
    server: HttpServer, provider: TestProvider, tmp_path: Path
) -> None:
    """As in aiohttp, and unlike in the other libraries: it is another origin."""
    server.rule = lambda _: redirect("https://a.example/")

    async def run(secure: HttpServer) -> int:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(
            resolver=Resolver({80: server.port, 443: secure.port}), ssl=trust
        )
        async with aiohttp_session(AiohttpAuth(provider=provider), connector=connector) as session:
            return await get("http://a.example/")(session)

    with HttpServer(certificate=Certificate.make(tmp_path)) as secure:
        assert asyncio.run(run(secure)) == 200
        assert secure.tokens == [None]
    assert server.tokens == [bearer(provider.token())]


@pytest.mark.parametrize("by", ["url", "header of the call", "header of the session"])
def test_the_callers_credentials(by: str, server: HttpServer, provider: TestProvider) -> None:
    """The token replaces them; without a token they are sent."""
    headers = {"Authorization": CREDENTIALS}
    options: dict[str, Any] = {"headers": headers} if by == "header of the session" else {}
    work = get(server.url, headers=headers if by == "header of the call" else {})
    if by == "url":
        work = get(server.url.replace("//", "//user:password@"))
    auth = AiohttpAuth(provider=provider)
    in_session(auth, work=work, **options)
    token = bearer(provider.token())
    provider.switch_off()
    in_session(auth, work=work, **options)
    assert server.tokens == [token, CREDENTIALS]


def test_a_session_that_raises_for_status_gets_the_second_response(
    server: HttpServer, provider: TestProvider
) -> None:
    """And raises for that one, if it is refused as well."""
    old = provider.stale_token()
    server.rule = refusing(old)
    auth = AiohttpAuth(provider=provider)
    assert in_session(auth, work=get(server.url), raise_for_status=True) == 200
    assert server.tokens == [bearer(old), bearer(provider.token())]
    server.rule = refuse
    with pytest.raises(aiohttp.ClientResponseError, match="401") as caught:
        in_session(auth, work=get(server.url), raise_for_status=True)
    assert "'Authorization': 'Bearer <token>'" in repr(caught.value)


def test_the_second_try_uses_the_same_connection(
    server: HttpServer, provider: TestProvider
) -> None:
    """The body of the refusal is short."""
    server.rule = refusing(provider.stale_token())
    in_session(AiohttpAuth(provider=provider), work=get(server.url))
    assert server.seen[0].peer == server.seen[1].peer


def test_a_refusal_without_a_second_try_is_not_read(
    server: HttpServer, provider: TestProvider
) -> None:
    """It is still a stream."""
    server.rule = lambda _: Answer(401, body=b"x" * BIG)

    async def work(session: aiohttp.ClientSession) -> bytes:
        async with session.get(server.url) as reply:
            assert not reply.content.is_eof()
            return await reply.read()

    assert len(in_session(AiohttpAuth(provider=provider), work=work)) == BIG


def mixed() -> aiohttp.MultipartWriter:
    writer = aiohttp.MultipartWriter("mixed")
    writer.append("text")
    writer.append_json({"a": 1})
    inner = aiohttp.MultipartWriter("mixed")
    inner.append(b"bytes")
    writer.append(inner)
    return writer


def with_a_stream() -> aiohttp.MultipartWriter:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"bytes"

    writer = mixed()
    writer.append(chunks())
    return writer


class Dice(aiohttp.Payload):
    """A payload of the application's, of which nobody knows what it writes the second time."""

    def __init__(self) -> None:
        super().__init__(None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "4"

    async def write(self, writer: Any) -> None:
        await writer.write(b"4")


@pytest.mark.parametrize(
    ("make", "options", "is_sent_again"),
    [
        (mixed, {}, True),
        (with_a_stream, {}, False),
        (Dice, {}, False),
        (lambda: bytearray(b"bytes"), {}, True),
        (lambda: b"bytes" * 100, {"compress": True}, True),
        (lambda: b"bytes", {"chunked": True}, True),
        (lambda: b"bytes", {"expect100": True}, True),
    ],
)
def test_the_bodies_of_aiohttp(
    make: Callable[[], Any],
    options: dict[str, Any],
    is_sent_again: bool,
    server: HttpServer,
    provider: TestProvider,
) -> None:
    """They are sent again byte for byte, with the same headers, or not at all."""
    server.rule = refusing(provider.stale_token())

    async def work(session: aiohttp.ClientSession) -> int:
        return await post(server.url, data=make(), **options)(session)

    status = in_session(AiohttpAuth(provider=provider), work=work)
    assert (status, len(server.seen)) == ((200, 2) if is_sent_again else (401, 1))
    for seen in server.seen:
        seen.headers.pop("authorization")
        assert seen.body
        assert (seen.body, seen.headers) == (server.seen[0].body, server.seen[0].headers)


@asynccontextmanager
async def web_server(*routes: web.AbstractRouteDef) -> AsyncIterator[str]:
    """Serve with aiohttp itself, for what the standard library cannot do."""
    app = web.Application(client_max_size=2 * LARGE)
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def test_a_websocket_carries_a_token_and_is_refused_once(provider: TestProvider) -> None:
    """The handshake is a request like any other."""
    old = provider.stale_token()
    tokens: list[str | None] = []

    async def echo(request: web.Request) -> web.StreamResponse:
        tokens.append(request.headers.get("Authorization"))
        if tokens[-1] == bearer(old):
            return web.Response(status=401)
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data)
        return socket_

    async def run() -> str:
        async with (
            web_server(web.get("/", echo)) as url,
            aiohttp_session(AiohttpAuth(provider=provider)) as session,
            session.ws_connect(url) as connected,
        ):
            await connected.send_str("hello")
            return await connected.receive_str()

    assert asyncio.run(run()) == "hello"
    assert tokens == [bearer(old), bearer(provider.token())]


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("is_file", [False, True])
def test_an_upload_that_is_refused_before_its_end(
    is_file: bool, provider: TestProvider, tmp_path: Path
) -> None:
    """Bytes are sent again; a file that is still being read is not."""
    old = provider.stale_token()
    sizes: list[int] = []

    async def take(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == bearer(old):
            return web.Response(status=401)
        sizes.append(len(await request.read()))
        return web.Response()

    async def run(data: Any) -> int:
        auth = AiohttpAuth(provider=provider)
        async with web_server(web.post("/", take)) as url, aiohttp_session(auth) as session:
            return await post(url, data=data)(session)

    path = tmp_path / "large"
    path.write_bytes(b"x" * LARGE)
    with path.open("rb") as file:
        status = asyncio.run(run(file if is_file else file.read()))
    assert (status, sizes) == ((401, []) if is_file else (200, [LARGE]))


def test_a_body_that_waits_for_the_servers_consent(provider: TestProvider) -> None:
    """The second try asks again, also if the first one was refused before the body was sent."""
    old = provider.stale_token()
    asked: list[str | None] = []

    async def consent(request: web.Request) -> web.StreamResponse | None:
        asked.append(request.headers.get("Authorization"))
        if asked[-1] == bearer(old):
            return web.Response(status=401)
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def take(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    async def run() -> str:
        route = web.post("/", take, expect_handler=consent)
        auth = AiohttpAuth(provider=provider)
        async with (
            web_server(route) as url,
            aiohttp_session(auth) as session,
            session.post(url, data=b"body", expect100=True) as reply,
        ):
            return await reply.text()

    assert asyncio.run(run()) == "body"
    assert asked == [bearer(old), bearer(provider.token())]


def test_a_proxy_gets_the_request_as_it_is(server: HttpServer, provider: TestProvider) -> None:
    """The token is for the origin, and the proxy's own credentials stay."""
    own = {"Proxy-Authorization": "Basic cHJveHk6cHc="}
    work = get("http://a.example/", proxy=server.url, proxy_headers=own)
    auth = AiohttpAuth(provider=provider, allowed_hosts=["a.example"])
    assert in_session(auth, work=work) == 200
    [seen] = server.seen
    assert (seen.path, seen.authorization) == ("http://a.example/", bearer(provider.token()))


def test_the_token_of_an_earlier_try_is_not_sent_without_being_asked_for_again(
    server: HttpServer, provider: TestProvider
) -> None:
    """A middleware around this one sends the request again after the flag was turned off."""

    async def twice(request: Any, handler: Any) -> Any:
        (await handler(request)).close()
        provider.switch_off()
        return await handler(request)

    in_session(twice, AiohttpAuth(provider=provider), work=get(server.url))
    assert [value is None for value in server.tokens] == [False, True]


def stalled(end: threading.Event) -> Iterator[bytes]:
    yield b"x"
    end.wait(TIMEOUT + 10)


def test_the_second_try_does_not_wait_for_a_body_that_stalls(
    server: HttpServer, provider: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one read of it lasts longer."""
    module = "manor_mcp_interceptors.client.aiohttp_middleware"
    monkeypatch.setattr(f"{module}.MAX_DRAIN_SECONDS", 0.05)
    end, old = threading.Event(), provider.stale_token()
    refusal = Answer(401, chunks=stalled(end))
    server.rule = lambda seen: refusal if seen.authorization == bearer(old) else ok(seen)
    assert in_session(AiohttpAuth(provider=provider), work=get(server.url)) == 200
    end.set()


class Stuck(TestProvider):
    """A provider whose flag takes forever once a token was refused."""

    __slots__ = ("is_asked",)
    is_asked: asyncio.Event

    async def decision_async(self, max_wait: float | None = None) -> Decision:
        if self.refused:
            self.is_asked.set()
            await asyncio.sleep(60)
        return await super().decision_async(max_wait)


@pytest.mark.parametrize("ended_by", ["time-out", "cancellation", "the client's time-out"])
def test_a_call_that_is_ended_between_two_tries_leaves_no_connection(
    ended_by: str, server: HttpServer
) -> None:
    """The one connection of the session is free for the next call."""
    provider, end = Stuck(), threading.Event()
    server.rule = lambda _: Answer(401, chunks=stalled(end))
    auth = AiohttpAuth(provider=provider)

    async def run() -> None:
        provider.is_asked = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp_session(auth, connector=connector) as session:
            timeout = aiohttp.ClientTimeout(0.5 if ended_by == "the client's time-out" else 20)
            call = asyncio.ensure_future(get(server.url, timeout=timeout)(session))
            await provider.is_asked.wait()
            if ended_by == "cancellation":
                call.cancel()
            with pytest.raises((asyncio.TimeoutError, asyncio.CancelledError)) as caught:
                await asyncio.wait_for(call, 0.1 if ended_by == "time-out" else None)
            provider.refused.clear()
            server.rule = ok
            assert await get(server.url)(session) == 200
            assert caught.value.__traceback__  # what it refers to still exists

    asyncio.run(run())
    end.set()
