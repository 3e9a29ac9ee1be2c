"""The second try in detail: what it keeps, what it leaves alone, and when there is none."""

from __future__ import annotations

import asyncio
import io
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter

from manor_mcp_interceptors import MCPTokenProvider, RequestsAuth, Settings
from manor_mcp_interceptors._decision.decision import Decision
from tests.support import OTHER_SECRET, SECRET, StaticGate
from tests.support.http_clients import (
    CLIENTS,
    TestProvider,
    bearer,
    call,
    library_of,
    make_auth,
)
from tests.support.http_server import Answer, HttpServer, Seen, ok, refuse, refusing

each_client = pytest.mark.parametrize("client", CLIENTS)
HTTPX = [client for client in CLIENTS if client != "requests"]
each_library = pytest.mark.parametrize("library", [httpx, httpx2])


@pytest.fixture(scope="module")
def running() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


@pytest.fixture
def server(running: HttpServer) -> HttpServer:
    running.start_over(ok)
    return running


@pytest.fixture
def provider() -> TestProvider:
    return TestProvider()


@each_client
def test_a_fresh_token_is_not_replaced(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """A server that refuses what was minted a moment ago gets no second request."""
    server.rule = refuse
    auth = make_auth(client, provider=provider)
    for _ in range(3):
        assert call(client, auth, "GET", server.url).status == 401
    assert server.tokens == [bearer(provider.token())] * 3


@each_client
def test_a_rotated_secret_is_healed_at_once(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However young the refused token is."""
    auth = make_auth(client)
    call(client, auth, "GET", server.url)
    old = MCPTokenProvider.get_token()
    assert old is not None
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    server.start_over(refusing(old))
    assert call(client, auth, "GET", server.url).status == 200
    assert server.tokens == [bearer(old), bearer(MCPTokenProvider.get_token())]


@each_client
def test_another_thread_has_renewed_it_already(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The call goes on with that token, and mints none."""
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
def test_the_flag_goes_off_in_between(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The 401 stands, even where a token is required: it was sent with one."""
    old = provider.stale_token()

    def rule(seen: Seen) -> Answer:
        provider.gate.on = False
        return refuse(seen)

    server.rule = rule
    auth = make_auth(client, provider=provider, required=True)
    assert call(client, auth, "GET", server.url).status == 401
    assert server.tokens == [bearer(old)]


@each_client
def test_the_allowed_hosts_change_in_between(
    client: str, server: HttpServer, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new token stays at home, and the 401 stands."""

    def rule(seen: Seen) -> Answer:
        monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
        monkeypatch.setenv("MCP_AUTH_ALLOWED_HOSTS", "mcp.example.com")
        return refuse(seen)

    server.rule = rule
    assert call(client, make_auth(client), "GET", server.url).status == 401
    assert len(server.seen) == 1


@each_client
def test_an_async_client_asks_without_holding_up_its_loop(client: str, server: HttpServer) -> None:
    """First and second try alike: a slow flag must not stall the other tasks."""
    asked: list[str] = []

    class Noting(TestProvider):
        def decision(self) -> Decision:
            asked.append("sync")
            return super().decision()

        async def decision_async(self) -> Decision:
            asked.append("async")
            return await super().decision_async()

    provider = Noting()
    server.rule = refusing(provider.stale_token())
    auth = make_auth(client, provider=provider)
    asked.clear()
    assert call(client, auth, "GET", server.url).status == 200
    assert asked == ["async" if client.endswith("async") else "sync"] * 2


@each_client
def test_the_second_refusal_is_told_too(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """So that the next token is minted before a call has to meet it."""
    old = provider.stale_token()
    server.rule = refuse
    call(client, make_auth(client, provider=provider), "GET", server.url)
    assert provider.refused == [old, provider.token()]


@each_client
def test_other_statuses_are_left_alone(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """403 is an answer to who we are, not to our token."""
    provider.stale_token()
    server.rule = lambda _: Answer(403)
    assert call(client, make_auth(client, provider=provider), "GET", server.url).status == 403
    assert len(server.seen) == 1
    assert provider.refused == []


@each_client
def test_a_refusal_of_the_callers_own_header_is_not_ours(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """With the flag off we had no part in it."""
    provider.gate.on = False
    server.rule = refuse
    headers = {"Authorization": "Bearer the-callers"}
    auth = make_auth(client, provider=provider)
    assert call(client, auth, "GET", server.url, headers=headers).status == 401
    assert server.tokens == ["Bearer the-callers"]
    assert provider.refused == []


@each_client
def test_a_cookie_set_with_the_refusal_goes_along(
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
def test_in_requests_the_second_try_keeps_every_option(
    server: HttpServer, provider: TestProvider, *, stream: bool
) -> None:
    """Timeout, proxies, certificates and stream; on the same connection; with its history."""
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


@each_library
def test_in_httpx_the_second_try_keeps_timeout_and_stream(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """On the same connection; what streams is still streaming."""
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
def test_a_refusal_that_stands_is_not_read(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """The original response is untouched: a streamed 401 streams."""
    server.rule = refuse
    auth = make_auth(library.__name__, provider=provider)
    with library.Client(auth=auth) as client, client.stream("GET", server.url) as reply:
        assert not reply.is_stream_consumed
        assert reply.history == []


def broken_file() -> io.BytesIO:
    class Broken(io.BytesIO):
        ended = False

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.ended = data == b""
            return data

        def seek(self, offset: int, whence: int = 0) -> int:
            if self.ended:
                raise OSError("it went away")
            return super().seek(offset, whence)

    return Broken(b"payload")


def pipe() -> Any:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation

    return Pipe(b"payload")


@pytest.mark.parametrize("client", ["requests", "httpx", "httpx2"])
@pytest.mark.parametrize("make", [broken_file, pipe])
def test_a_file_that_cannot_go_back_is_sent_once(
    client: str, server: HttpServer, provider: TestProvider, make: Callable[[], Any]
) -> None:
    """Whatever its methods promise."""
    server.rule = refusing(provider.stale_token())
    name = "data" if client == "requests" else "content"
    auth = make_auth(client, provider=provider)
    # A length, since httpx would seek for it.
    options = {name: make(), "headers": {"Content-Length": "7"}}
    if client == "requests":
        options = {name: make()}
    assert call(client, auth, "POST", server.url, **options).status == 401
    assert [seen.body for seen in server.seen] == [b"payload"]


@each_library
def test_a_multipart_file_that_cannot_go_back_is_sent_once(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """A second reading would find nothing."""
    server.rule = refusing(provider.stale_token())
    with library.Client(auth=make_auth(library.__name__, provider=provider)) as client:
        assert client.post(server.url, files={"part": pipe()}).status_code == 401
    assert [b"payload" in seen.body for seen in server.seen] == [True]


@each_library
def test_the_librarys_own_names_that_we_look_at_are_there(library: Any) -> None:
    """Without them there would be no second try, which the contract's cells notice as well."""
    stream = library.Request("POST", "http://a.example/", files={"f": b"x"}).stream
    assert type(stream).__name__ == "MultipartStream"
    assert [field.file for field in stream.fields] == [b"x"]
    file = io.BytesIO()
    assert library.Request("POST", "http://a.example/", content=file).stream._stream is file


@each_library
@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a", b"b")])
def test_a_list_of_chunks_is_sent_again(
    library: Any, server: HttpServer, provider: TestProvider, body: Any
) -> None:
    """It is in memory already."""
    server.rule = refusing(provider.stale_token())
    auth = make_auth(library.__name__, provider=provider)
    with library.Client(auth=auth) as client:
        assert client.post(server.url, content=body).status_code == 200
    assert [seen.body for seen in server.seen] == [b"ab", b"ab"]


@each_library
def test_a_stream_of_the_callers_own_is_sent_once(
    library: Any, server: HttpServer, provider: TestProvider
) -> None:
    """We cannot know what a second reading yields."""

    class Stream(library.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield b"once"

    server.rule = refusing(provider.stale_token())
    with library.Client(auth=make_auth(library.__name__, provider=provider)) as client:
        request = library.Request(
            "POST", server.url, stream=Stream(), headers={"Content-Length": "4", "Host": "a"}
        )
        assert client.send(request).status_code == 401
    assert len(server.seen) == 1


@pytest.mark.parametrize("client", HTTPX)
def test_cancelling_a_call_leaves_the_auth_usable(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """Nothing is held while a response is on its way."""
    auth = make_auth(client, provider=provider)
    request = library_of(client).Request("GET", server.url)

    async def cancelled() -> None:
        flow = auth.async_auth_flow(request)
        await flow.__anext__()
        await flow.aclose()

    asyncio.run(cancelled())
    assert call(client, auth, "GET", server.url).status == 200


@each_client
def test_an_auth_object_is_pickled_without_a_secret(
    client: str, server: HttpServer, env_on: None
) -> None:
    """Used or not; the copy asks the process-wide provider, as its original does."""
    auth = make_auth(client, allowed_hosts=["127.0.0.1"])
    call(client, auth, "GET", server.url)
    data = pickle.dumps(auth)
    token = MCPTokenProvider.get_token()
    assert token is not None
    assert SECRET.encode() not in data
    assert token.encode() not in data
    call(client, pickle.loads(data), "GET", server.url)
    assert server.tokens == [bearer(token)] * 2


def test_a_pickled_response_of_requests(server: HttpServer, provider: TestProvider) -> None:
    """It holds its request, and so our hook; which then does nothing."""
    own = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate())
    server.rule = refuse
    reply = requests.get(server.url, auth=RequestsAuth(provider=own), timeout=5)
    del reply.request.headers["Authorization"]  # the caller's business
    data = pickle.dumps(reply)
    token = own.token()
    assert token is not None
    assert token.encode() not in data
    restored = pickle.loads(data)
    [hook] = restored.request.hooks["response"]
    assert hook(restored, timeout=5) is restored


def test_httpx_auth_under_an_aliased_httpx() -> None:
    """After `httpx2.alias_httpx()` both adapters serve the one library there is."""
    code = """
import httpx2
httpx2.alias_httpx()
import httpx
from manor_mcp_interceptors import Httpx2Auth, HttpxAuth
assert httpx is httpx2
answer = httpx2.MockTransport(lambda request: httpx2.Response(204))
for kind in (HttpxAuth, Httpx2Auth):
    with httpx.Client(auth=kind(), transport=answer) as client:
        print(client.get("http://a.example/").status_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("204\n204\n", "")
