"""The second try: what it keeps, what it does not change, and when there is none."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter

from manor_mcp_interceptors import MCPTokenProvider, RequestsAuth
from manor_mcp_interceptors._decision.decision import Decision
from tests.support import OTHER_SECRET
from tests.support.http_clients import (
    ASYNC,
    CLIENTS,
    TestProvider,
    bearer,
    call,
    make_auth,
)
from tests.support.http_server import Answer, HttpServer, Seen, ok, refuse, refusing

each_client = pytest.mark.parametrize("client", CLIENTS)
each_library = pytest.mark.parametrize("library", [httpx, httpx2])


@each_client
def test_no_retry_with_a_token_that_was_just_minted(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """A server that refuses what was minted a moment ago gets no second request."""
    server.rule = refuse
    auth = make_auth(client, provider=provider)
    for _ in range(3):
        assert call(client, auth, "GET", server.url).status == 401
    assert server.tokens == [bearer(provider.token())] * 3


@each_client
def test_a_retry_after_a_rotated_secret(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, even if the refused token is new."""
    auth = make_auth(client)
    call(client, auth, "GET", server.url)
    old = MCPTokenProvider.get_token()
    assert old is not None
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    server.start_over(refusing(old))
    assert call(client, auth, "GET", server.url).status == 200
    assert server.tokens == [bearer(old), bearer(MCPTokenProvider.get_token())]


@each_client
def test_a_retry_with_the_token_that_another_thread_has_renewed(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The call uses that token and mints none."""
    old = provider.stale_token()

    def rule(seen: Seen) -> Answer:
        if seen.authorization != bearer(old):
            return ok(seen)
        provider.invalidate(old)
        provider.token()
        return refuse(seen)

    server.rule = rule
    assert call(client, make_auth(client, provider=provider), "GET", server.url).status == 200
    assert server.tokens == [bearer(old), bearer(provider.token())]


@each_client
def test_no_retry_when_the_flag_was_turned_off_meanwhile(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The caller gets the 401, even if a token is required: the request was sent with one."""
    old = provider.stale_token()

    def rule(seen: Seen) -> Answer:
        provider.gate.on = False
        return refuse(seen)

    server.rule = rule
    auth = make_auth(client, provider=provider, required=True)
    assert call(client, auth, "GET", server.url).status == 401
    assert server.tokens == [bearer(old)]


@each_client
def test_no_retry_when_the_host_is_no_longer_allowed(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new token is not sent, and the caller gets the 401."""

    def rule(seen: Seen) -> Answer:
        monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
        monkeypatch.setenv("MCP_AUTH_ALLOWED_HOSTS", "mcp.example.com")
        return refuse(seen)

    server.rule = rule
    assert call(client, make_auth(client), "GET", server.url).status == 401
    assert len(server.seen) == 1


@each_client
def test_an_async_client_awaits_each_decision(client: str, server: HttpServer) -> None:
    """At the first and at the second try: a slow flag must not block the other tasks."""
    asked: list[str] = []

    class Noting(TestProvider):
        def decision(self, max_wait: float | None = None) -> Decision:
            asked.append("sync")
            return super().decision(max_wait)

        async def decision_async(self, max_wait: float | None = None) -> Decision:
            asked.append("async")
            return await super().decision_async(max_wait)

    provider = Noting()
    server.rule = refusing(provider.stale_token())
    auth = make_auth(client, provider=provider)
    asked.clear()
    assert call(client, auth, "GET", server.url).status == 200
    assert asked == ["async" if client in ASYNC else "sync"] * 2


@each_client
def test_the_second_refusal_is_reported_too(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """So that the next token is minted before another call is refused."""
    old = provider.stale_token()
    server.rule = refuse
    call(client, make_auth(client, provider=provider), "GET", server.url)
    assert provider.refused == [old, provider.token()]


@each_client
def test_no_retry_after_another_status(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """403 refuses the caller, not the token."""
    provider.stale_token()
    server.rule = lambda _: Answer(403)
    assert call(client, make_auth(client, provider=provider), "GET", server.url).status == 403
    assert len(server.seen) == 1
    assert provider.refused == []


@each_client
def test_no_retry_of_a_request_with_the_callers_header(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """With the flag off the request carried no token of the provider."""
    provider.gate.on = False
    server.rule = refuse
    headers = {"Authorization": "Bearer the-callers"}
    auth = make_auth(client, provider=provider)
    assert call(client, auth, "GET", server.url, headers=headers).status == 401
    assert server.tokens == ["Bearer the-callers"]
    assert provider.refused == []


@each_client
def test_the_retry_carries_a_cookie_that_the_refusal_set(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """As with the libraries' own digest authentication."""
    old = provider.stale_token()

    def rule(seen: Seen) -> Answer:
        if seen.authorization == bearer(old):
            return Answer(401, {"Set-Cookie": "server=a; Path=/"})
        return ok(seen)

    server.rule = rule
    call(client, make_auth(client, provider=provider), "GET", server.url)
    assert [seen.headers.get("cookie") for seen in server.seen] == [None, "server=a"]


class Recording(HTTPAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.options: list[dict[str, Any]] = []

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        assert not args
        self.options.append(options)
        return super().send(request, **options)


@pytest.mark.parametrize("stream", [False, True])
def test_the_retry_in_requests_keeps_every_option(
    server: HttpServer, provider: TestProvider, *, stream: bool
) -> None:
    """Time-out, proxies, certificates and stream, on the same connection, with the history."""
    old = provider.stale_token()
    server.rule = refusing(old)
    adapter = Recording()
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.auth = RequestsAuth(provider=provider)
        reply = session.get(
            server.url, timeout=(5, 11), stream=stream, verify=False, proxies={"ftp": "x"}
        )
        first, second = adapter.options
        assert first == second
        assert first["timeout"] == (5, 11)
        assert (first["stream"], first["verify"], first["proxies"]["ftp"]) == (stream, False, "x")
        assert reply.raw.closed is not stream
        assert reply.content == b"answer"
        assert server.seen[0].peer == server.seen[1].peer
    [refusal] = reply.history
    assert (refusal.status_code, refusal.content) == (401, b"answer")
    assert refusal.request.headers["Authorization"] == bearer(old)
    assert reply.request.headers["Authorization"] == bearer(provider.token())


def test_the_retry_in_requests_precedes_a_hook_that_raises(
    server: HttpServer, provider: TestProvider
) -> None:
    """Also if the hook was there before the auth."""
    old = provider.stale_token()
    server.rule = refusing(old)
    with requests.Session() as session:
        request = requests.Request("GET", server.url, hooks={"response": raise_for_status})
        prepared = session.prepare_request(request)
        prepared.prepare_auth(RequestsAuth(provider=provider))
        assert session.send(prepared).status_code == 200
    assert server.tokens == [bearer(old), bearer(provider.token())]


def raise_for_status(response: requests.Response, **_: Any) -> None:
    response.raise_for_status()


@each_library
def test_the_retry_in_httpx_keeps_timeout_and_stream(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """On the same connection, and a streamed response is still streamed."""
    server.rule = refusing(provider.stale_token())
    timeouts = []

    class Transport(library.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            timeouts.append(request.extensions["timeout"])
            return super().handle_request(request)

    auth = make_auth(library.__name__, provider=provider)
    with (
        library.Client(auth=auth, timeout=7, transport=Transport()) as client,
        client.stream("GET", server.url) as reply,
    ):
        assert not reply.is_closed
        assert reply.read() == b"answer"
    assert [answer.status_code for answer in reply.history] == [401]
    assert timeouts == [{"connect": 7, "read": 7, "write": 7, "pool": 7}] * 2
    assert server.seen[0].peer == server.seen[1].peer


@each_library
def test_a_refusal_without_a_retry_is_not_read(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """The response is unchanged: a streamed 401 is still a stream."""
    server.rule = refuse
    auth = make_auth(library.__name__, provider=provider)
    with library.Client(auth=auth) as client, client.stream("GET", server.url) as reply:
        assert not reply.is_stream_consumed
        assert reply.history == []


ENDLESS = b"x" * 65_536


def slow_body() -> Iterator[bytes]:
    """Yield a byte at a time; wait for the client to give up after the first few."""
    for _ in range(1000):
        yield b"x"
        time.sleep(0.01)


@each_client
@pytest.mark.parametrize("body", ["endless", "slow", "cut off"])
def test_the_retry_does_not_wait_for_the_refusals_body(
    client: str,
    body: str,
    server: HttpServer,
    provider: TestProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bounded part of it is read, in a short time; the rest costs a new connection."""
    monkeypatch.setattr("manor_mcp_interceptors.client._bearer_flow.MAX_DRAIN_SECONDS", 0.1)
    old = provider.stale_token()
    answers = {
        "endless": lambda: Answer(401, chunks=itertools.repeat(ENDLESS, 1000)),
        "slow": lambda: Answer(401, chunks=slow_body()),
        "cut off": lambda: Answer(401, {"Content-Length": "9", "Connection": "close"}, body=b"x"),
    }
    server.rule = lambda seen: answers[body]() if seen.authorization == bearer(old) else ok(seen)
    reply = call(client, make_auth(client, provider=provider), "GET", server.url)
    assert (reply.status, reply.history, reply.body) == (200, [401], b"answer")
    assert server.seen[0].peer != server.seen[1].peer
