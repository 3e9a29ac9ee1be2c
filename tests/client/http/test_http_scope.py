"""The URLs that a token may go to: allowed hosts, redirects, and required tokens."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    RequestsAuth,
    SettingsError,
    TokenUnavailableError,
)
from tests.support.http_clients import (
    ASYNC,
    CLIENTS,
    HTTPX,
    TestProvider,
    aiohttp_session,
    bearer,
    call,
    library_of,
    make_auth,
)
from tests.support.http_server import HttpServer, ok, redirect

each_client = pytest.mark.parametrize("client", CLIENTS)
each_httpx = pytest.mark.parametrize("client", HTTPX)


@each_client
def test_a_host_outside_the_list_gets_no_token(
    client: str, server: HttpServer, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes without a token, with one log line for the host and none per call."""
    auth = make_auth(client, provider=provider, allowed_hosts=["mcp.example.com"])
    with caplog.at_level(logging.WARNING, "manor_mcp_interceptors"):
        for _ in range(3):
            assert call(client, auth, "GET", server.url).status == 200
    assert server.tokens == [None, None, None]
    lines = [text for text in caplog.messages if "target_not_allowed" in text]
    assert len(lines) == 1
    assert "127.0.0.1" in lines[0]


@each_client
def test_a_host_on_the_list_gets_one(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """By host, and by host and port; as a list, and as text with commas."""
    for pattern in ("127.0.0.1", f"127.0.0.1:{server.port}"):
        for hosts in (["x.example", pattern], f"x.example, {pattern}"):
            call(
                client, make_auth(client, provider=provider, allowed_hosts=hosts), "GET", server.url
            )
    wrong_port = make_auth(client, provider=provider, allowed_hosts=["127.0.0.1:1"])
    call(client, wrong_port, "GET", server.url)
    assert server.tokens == [bearer(provider.token())] * 4 + [None]


@each_client
def test_the_environment_bounds_an_adapter_and_the_argument_wins(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is read again after each recheck, for adapters that exist already."""
    bounded, free = make_auth(client), make_auth(client, allowed_hosts=["127.0.0.1"])
    for hosts in ("*.example.com, mcp.internal", "127.0.0.1"):
        monkeypatch.setenv("MCP_AUTH_ALLOWED_HOSTS", hosts)
        MCPTokenProvider.reset()
        call(client, bounded, "GET", server.url)
        call(client, free, "GET", server.url)
    assert [value is not None for value in server.tokens] == [False, True, True, True]


@each_client
def test_a_malformed_list_in_the_environment_means_no_token(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never guessed at, and the argument does not override it."""
    monkeypatch.setenv("MCP_AUTH_ALLOWED_HOSTS", "127.0.0.1,https://x.example/")
    call(client, make_auth(client), "GET", server.url)
    call(client, make_auth(client, allowed_hosts=["127.0.0.1"]), "GET", server.url)
    assert server.tokens == [None, None]
    status = MCPTokenProvider.get_instance().status()
    assert status.outcome is Outcome.INVALID_CONFIG
    assert "MCP_AUTH_ALLOWED_HOSTS" in status.reason


@each_client
@pytest.mark.parametrize("hosts", ["", [], "a,,b", ["*"], ["https://x.example"], [b"x"], [[]], 1])
def test_a_malformed_list_is_refused_at_construction(client: str, hosts: Any) -> None:
    """By the name of the argument."""
    with pytest.raises(SettingsError, match="allowed_hosts") as caught:
        make_auth(client, allowed_hosts=hosts)
    assert caught.value.variable == "allowed_hosts"


@each_client
@pytest.mark.parametrize(
    ("hosts", "on", "outcome"),
    [
        (["x.example"], True, Outcome.TARGET_NOT_ALLOWED),
        (["x.example"], False, Outcome.FLAG_OFF),
        (None, False, Outcome.FLAG_OFF),
    ],
)
def test_a_required_token_that_is_missing_sends_nothing(
    client: str,
    server: HttpServer,
    provider: TestProvider,
    hosts: list[str] | None,
    on: bool,
    outcome: Outcome,
) -> None:
    """Not a byte is sent, and the error says why."""
    provider.gate.on = on
    auth = make_auth(client, provider=provider, required=True, allowed_hosts=hosts)
    with pytest.raises(TokenUnavailableError) as caught:
        call(client, auth, "POST", server.url)
    assert caught.value.outcome is outcome
    assert server.seen == []


@each_client
def test_the_callers_header(client: str, server: HttpServer, provider: TestProvider) -> None:
    """The token replaces it; without a token it is sent as it is."""
    auth = make_auth(client, provider=provider)
    headers = {"Authorization": "Bearer the-callers"}
    call(client, auth, "GET", server.url, headers=headers)
    token = bearer(provider.token())
    provider.switch_off()
    call(client, auth, "GET", server.url, headers=headers)
    elsewhere = make_auth(client, provider=TestProvider(), allowed_hosts=["x.example"])
    call(client, elsewhere, "GET", server.url, headers=headers)
    assert server.tokens == [token, "Bearer the-callers", "Bearer the-callers"]


def follow_by_hand(client: str, auth: Any, url: str, between: Any = lambda: None) -> None:
    """Send, then send what the library makes of the redirect, as the mcp client does."""
    library = library_of(client)
    options = {"auth": auth, "trust_env": False}
    if client not in ASYNC:
        with library.Client(**options) as connected:
            request = connected.build_request("GET", url)
            while request is not None:
                request = connected.send(request).next_request
                between()
        return

    async def follow() -> None:
        async with library.AsyncClient(**options) as connected:
            request = connected.build_request("GET", url)
            while request is not None:
                request = (await connected.send(request)).next_request
                between()

    asyncio.run(follow())


@each_httpx
def test_a_redirect_followed_by_hand_to_another_origin_carries_no_token(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The auth flow runs again on each hop, and recognizes it."""
    with HttpServer(lambda _: redirect(f"{server.url}/back")) as stranger:
        start = f"{server.url}/start"
        server.rule = lambda seen: redirect(stranger.url) if seen.path == "/start" else ok(seen)
        follow_by_hand(client, make_auth(client, provider=provider), start)
        assert stranger.tokens == [None]
    assert server.paths == ["GET /start", "GET /back"]


@each_httpx
def test_a_required_token_stops_a_redirect_to_another_origin(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """A call that requires a token is not continued without one."""
    with HttpServer() as stranger:
        server.rule = lambda _: redirect(stranger.url)
        with pytest.raises(TokenUnavailableError) as caught:
            follow_by_hand(client, make_auth(client, provider=provider, required=True), server.url)
        assert stranger.seen == []
    assert caught.value.outcome is Outcome.TARGET_NOT_ALLOWED


@each_httpx
def test_a_redirect_followed_by_hand_within_the_origin_carries_the_current_token(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """Not the copied one, which may have become stale."""
    before = bearer(provider.token())
    server.rule = lambda seen: redirect("/end") if seen.path == "/start" else ok(seen)
    auth = make_auth(client, provider=provider)
    follow_by_hand(client, auth, f"{server.url}/start", lambda: provider.clock.advance(4000))
    assert server.tokens[0] == before
    assert server.tokens[1] not in {before, None}


@each_httpx
def test_a_redirect_followed_by_hand_after_the_flag_was_turned_off(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The copied header is removed."""
    server.rule = lambda seen: redirect("/end") if seen.path == "/start" else ok(seen)
    auth = make_auth(client, provider=provider)
    before = bearer(provider.token())
    follow_by_hand(client, auth, f"{server.url}/start", provider.switch_off)
    assert server.tokens == [before, None]


@each_httpx
def test_a_redirect_followed_by_hand_after_the_flag_was_turned_on(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """Another origin gets no token, although the first request had none either."""
    provider.switch_off()

    def switch_on() -> None:
        provider.gate.on = True
        provider.clock.advance(2)

    with HttpServer() as stranger:
        server.rule = lambda _: redirect(f"{stranger.url}/start")
        stranger.rule = lambda seen: redirect("/end") if seen.path == "/start" else ok(seen)
        follow_by_hand(client, make_auth(client, provider=provider), server.url, switch_on)
        assert stranger.tokens == [None, None]
    assert provider.token() is not None


@each_httpx
def test_requests_that_share_their_extensions_are_independent(
    client: str, provider: TestProvider
) -> None:
    """The second request must not look like a redirect of the first one."""
    library = library_of(client)
    tokens: list[str | None] = []

    def answer(request: Any) -> Any:
        tokens.append(request.headers.get("authorization"))
        return library.Response(200)

    shared: dict[str, Any] = {"timeout": {}}
    auth = make_auth(client.removesuffix("-async"), provider=provider)
    with library.Client(transport=library.MockTransport(answer), auth=auth) as connected:
        for url in ("http://a.example/", "http://b.example/"):
            request = library.Request("GET", url)
            request.extensions = shared  # as older versions do with those of the caller
            connected.send(request)
    assert tokens == [bearer(provider.token())] * 2
    assert shared == {"timeout": {}}


class Scripted(HTTPAdapter):
    """Answers without a network, since a test cannot listen on the ports 80 and 443."""

    def __init__(self, location: str, statuses: list[int]) -> None:
        super().__init__()
        self._location = location
        self._statuses = iter(statuses)
        self.seen: list[tuple[str, str | None]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.seen.append((str(request.url), request.headers.get("Authorization")))
        response = requests.Response()
        response.status_code = next(self._statuses)
        if response.status_code in {302, 307}:
            response.headers["location"] = self._location
        response.url, response.request = str(request.url), request
        response.raw = io.BytesIO()
        response.connection = self
        return response


TO_HTTPS = [
    "https://a.example/",
    "HTTPS://A.example:443/",
    "https://a.example.:443/",
    "https://%61.example/",
    "https:////a.example/",
    "%68ttps://a.example/",
    "ht\ttps://a.example/",
    "https:\\\\a.example/",
    "https://u:p@a.example/",
]
"""Some of them lead from http://a.example/ to https on the same host, some only seem to."""


def sent_by_requests(auth: Any, location: str, statuses: list[int]) -> tuple[Scripted, Any]:
    """Call http://a.example/ with a session; return what was sent and the response."""
    adapter = Scripted(location, statuses)
    with requests.Session() as session:
        session.trust_env = False
        session.auth = auth
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.mount("https:", adapter)  # how one without // is read depends on the Python
        return adapter, session.get("http://a.example/")


def fixed_header(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Be an auth whose header is the business of requests alone."""
    request.headers["Authorization"] = "fixed"
    return request


@pytest.mark.parametrize("location", [*TO_HTTPS, "http://a.example:0/", "http://a.example.:80/"])
@pytest.mark.parametrize("statuses", [[307, 403], [307, 200]])
def test_requests_keeps_or_drops_the_token_on_a_redirect_as_any_header(
    provider: TestProvider, location: str, statuses: list[int]
) -> None:
    """It keeps it on an upgrade to https of the host on the default ports, as httpx does."""
    adapter, reply = sent_by_requests(RequestsAuth(provider=provider), location, statuses)
    plain, _ = sent_by_requests(fixed_header, location, statuses)
    assert [url for url, _ in adapter.seen] == [url for url, _ in plain.seen]
    assert [has is None for _, has in adapter.seen] == [has is None for _, has in plain.seen]
    # The history holds what was sent.
    recorded = [answer.request.headers.get("Authorization") for answer in (*reply.history, reply)]
    assert recorded == [token for _, token in adapter.seen]


@pytest.mark.parametrize("location", [*TO_HTTPS, "http://a.example:0/", "http://b.example/"])
@pytest.mark.parametrize("statuses", [[307, 401, 401], [401, 307, 401, 401]])
def test_a_refusal_by_another_origin_gets_no_second_token_in_requests(
    provider: TestProvider, location: str, statuses: list[int]
) -> None:
    """The hook of the first request runs for its redirects too, and attaches nothing there."""
    old = provider.stale_token()
    adapter, _ = sent_by_requests(RequestsAuth(provider=provider), location, statuses)
    elsewhere = [has for url, has in adapter.seen if not url.startswith("http://a.example/")]
    assert set(elsewhere) <= {None, bearer(old)}
    assert len(elsewhere) <= 1


def test_a_location_that_is_no_url_is_for_requests_to_refuse(provider: TestProvider) -> None:
    """It raises its own error, and the token went to no other origin."""
    adapter = Scripted("https://[a.example/", [302])
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter)
        with pytest.raises(ValueError, match="IPv6"):
            session.get("http://a.example/", auth=RequestsAuth(provider=provider))
    assert len(adapter.seen) == 1


@pytest.mark.parametrize("location", ["https://a.example/", "/end", "http://a.example:80/end"])
def test_a_request_that_was_redirected_may_be_sent_again(
    provider: TestProvider, location: str
) -> None:
    """With its token each time, and with one on each redirect that keeps the header."""
    adapter = Scripted(location, [302, 200] * 2)
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        auth = RequestsAuth(provider=provider, required=True)
        request = session.prepare_request(requests.Request("GET", "http://a.example/", auth=auth))
        for _ in range(2):
            session.send(request)
    assert [seen for _, seen in adapter.seen] == [bearer(provider.token())] * 4


@each_httpx
@pytest.mark.parametrize("by_hand", [False, True])
def test_httpx_keeps_the_token_on_an_upgrade_to_https(
    client: str, by_hand: bool, provider: TestProvider
) -> None:
    """On the default ports of one host; also if the caller sends the next request.

    By hand the flow runs again, and so handles the 401; otherwise it is another origin's.
    """
    library = library_of(client)
    seen: list[tuple[str, str | None]] = []

    def answer(request: Any) -> Any:
        seen.append((request.url.scheme, request.headers.get("authorization")))
        if request.url.scheme == "http":
            return library.Response(307, headers={"location": "https://a.example/"})
        return library.Response(401)

    auth = make_auth(client.removesuffix("-async"), provider=provider)
    old = bearer(provider.stale_token())
    transport = library.MockTransport(answer)
    with library.Client(transport=transport, auth=auth) as connected:
        reply = connected.get("http://a.example/", follow_redirects=not by_hand)
        if by_hand:
            reply = connected.send(reply.next_request)
    assert reply.status_code == 401
    assert seen[:2] == [("http", old), ("https", old)]
    assert seen[2:] == ([("https", bearer(provider.token()))] if by_hand else [])


@each_client
def test_many_hosts_do_not_fill_the_log(
    client: str, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred hosts are logged."""
    auth = make_auth(client, provider=provider, allowed_hosts=["x.example"])
    with caplog.at_level(logging.WARNING, "manor_mcp_interceptors"):
        for number in range(150):
            assert header_for(client, auth, f"http://h{number}.example/") is None
    assert sum("target_not_allowed" in text for text in caplog.messages) == 100


@each_client
@pytest.mark.parametrize(
    "url",
    [
        "http://allowed.com.evil.com/",
        "http://evil.com/allowed.com",
        "http://evil.com#allowed.com",
        "http://evil.com?@allowed.com",
        "http://allowed.com@evil.com/",
        "http://allowed.com:80@evil.com/",
        "http://notallowed.com/",
        "http://allowed.co/",
        "http://[::1]/",
    ],
)
def test_a_url_that_only_looks_allowed(client: str, url: str, provider: TestProvider) -> None:
    """What counts is the host that the library would connect to."""
    auth = make_auth(client, provider=provider, allowed_hosts=["allowed.com", "*.allowed.com"])
    assert header_for(client, auth, url) is None


@each_client
@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("allowed.com", "http://ALLOWED.com./x"),
        ("allowed.com:443", "https://allowed.com/"),
        ("allowed.com:80", "http://user:pw@allowed.com/"),
        ("ALLOWED.com.", "https://allowed.com:8443/"),
        ("*.allowed.com:8443", "https://a.b.allowed.com:8443/"),
        ("::1", "http://[0:0:0:0:0:0:0:1]:9/"),
        ("[::1]:80", "http://[::1]/"),
        ("xn--bcher-kva.example", "http://bücher.example/"),
    ],
)
def test_a_url_that_is_allowed(client: str, pattern: str, url: str, provider: TestProvider) -> None:
    """Whatever its case, final dot, default port, IPv6 form and userinfo."""
    auth = make_auth(client, provider=provider, allowed_hosts=[pattern])
    assert header_for(client, auth, url) == bearer(provider.token())


def header_for(client: str, auth: Any, url: str) -> str | None:
    """Return the header that the adapter puts on a request to `url`."""
    if client == "requests":
        return requests.Request("GET", url, auth=auth).prepare().headers.get("Authorization")
    if client == "aiohttp":
        return asyncio.run(header_in_aiohttp(auth, url))
    request = library_of(client).Request("GET", url)
    if client in ASYNC:
        asyncio.run(auth.async_auth_flow(request).__anext__())
    else:
        next(auth.sync_auth_flow(request))
    value: str | None = request.headers.get("authorization")
    return value


class NotSentError(Exception):
    """Ends a request before its connection is opened."""


async def header_in_aiohttp(auth: Any, url: str) -> str | None:
    """Read the header behind the adapter; that of the user in the URL is aiohttp's."""
    headers: list[str | None] = []

    async def stop(request: Any, handler: Any) -> Any:
        headers.append(request.headers.get("Authorization"))
        raise NotSentError

    async with aiohttp_session(auth, stop) as session:
        with pytest.raises(NotSentError):
            await session.get(url)
    [value] = headers
    return None if value is not None and value.startswith("Basic ") else value


def test_a_request_prepared_twice(provider: TestProvider) -> None:
    """In requests, too, the earlier token is removed once the flag is off."""
    auth = RequestsAuth(provider=provider)
    request = requests.Request("GET", "http://a.example/", auth=auth).prepare()
    request.prepare_auth(auth)
    assert len(request.hooks["response"]) == 1
    provider.switch_off()
    request.prepare_auth(auth)
    assert "Authorization" not in request.headers


def test_a_prepared_request_may_be_sent_again(server: HttpServer, provider: TestProvider) -> None:
    """A redirect to another host drops the token from the copy that goes there."""
    with HttpServer() as stranger, requests.Session() as session:
        server.rule = lambda _: redirect(f"http://localhost:{stranger.port}/")
        prepared = requests.Request("GET", server.url, auth=RequestsAuth(provider=provider))
        request = session.prepare_request(prepared)
        for _ in range(2):
            assert session.send(request).status_code == 200
        assert stranger.tokens == [None, None]
    assert server.tokens == [bearer(provider.token())] * 2


@each_httpx
@pytest.mark.parametrize("elsewhere", ["http://a.example.:80/", "http://a.example:0/"])
def test_another_origin_that_looks_like_the_first_one(
    client: str, elsewhere: str, provider: TestProvider
) -> None:
    """A final dot, or the port 0; also if the redirect is followed by hand."""
    library, sent = library_of(client), []

    def answer(request: Any) -> Any:
        sent.append(request.headers.get("authorization"))
        return library.Response(307 if len(sent) == 1 else 200, headers={"location": elsewhere})

    auth = make_auth(client.removesuffix("-async"), provider=provider)
    with library.Client(transport=library.MockTransport(answer), auth=auth) as connected:
        request = connected.send(connected.build_request("GET", "http://a.example/")).next_request
        connected.send(request)
    assert sent == [bearer(provider.token()), None]


@each_httpx
def test_httpx_keeps_the_token_on_an_upgrade_past_an_allowed_port(
    client: str, provider: TestProvider
) -> None:
    """On an upgrade to https, whatever `allowed_hosts` says: documented, so that a change shows."""
    library, sent = library_of(client), []

    def answer(request: Any) -> Any:
        sent.append((request.url.scheme, request.headers.get("authorization") is not None))
        status = 307 if request.url.scheme == "http" else 200
        return library.Response(status, headers={"location": "https://a.example/"})

    auth = make_auth(
        client.removesuffix("-async"), provider=provider, allowed_hosts=["a.example:80"]
    )
    with library.Client(
        transport=library.MockTransport(answer), auth=auth, follow_redirects=True
    ) as connected:
        connected.get("http://a.example/")
    assert sent == [("http", True), ("https", True)]
