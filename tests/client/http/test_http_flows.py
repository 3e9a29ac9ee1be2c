"""The flows of `httpx.Auth` and `httpx2.Auth`: alike, whoever runs them and however they end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenUnavailableError
from tests.support import SECRET
from tests.support.http_clients import (
    ASYNC,
    HTTPX,
    TestProvider,
    bearer,
    call,
    library_of,
    make_auth,
)
from tests.support.http_server import (
    Answer,
    HttpServer,
    Seen,
    redirect,
    refuse,
    refusing,
)

each_httpx = pytest.mark.parametrize("client", HTTPX)


def composed(library: Any, auth: Any) -> Any:
    """Return an auth of another package that is composed by `auth_flow`, as httpx-auth's are."""

    class Composed(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Iterator[Any]:
            request.headers["X-Other"] = "other"
            yield from auth.auth_flow(request)

    return Composed()


@each_httpx
def test_auth_flow_sends_a_token_and_retries(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """As the flows of the clients do."""
    old = provider.stale_token()
    server.rule = refusing(old)
    auth = composed(library_of(client), make_auth(client, provider=provider))
    assert call(client, auth, "GET", server.url).status == 200
    assert server.tokens == [bearer(old), bearer(provider.token())]
    assert {seen.headers["x-other"] for seen in server.seen} == {"other"}


@each_httpx
def test_auth_flow_sends_nothing_without_a_required_token(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """Composed with another auth, a required token is still required."""
    provider.gate.on = False
    auth = composed(library_of(client), make_auth(client, provider=provider, required=True))
    with pytest.raises(TokenUnavailableError):
        call(client, auth, "GET", server.url)
    assert server.seen == []


def get_with_hook(client: str, auth: Any, url: str) -> None:
    """Make a call with a client that raises for status in an event hook."""
    options = {"auth": auth, "trust_env": False, "follow_redirects": True}
    library = library_of(client)

    def check(response: Any) -> None:
        if response.status_code >= 400:
            response.raise_for_status()

    async def check_async(response: Any) -> None:
        check(response)

    async def get() -> None:
        hooks = {"response": [check_async]}
        async with library.AsyncClient(event_hooks=hooks, **options) as connected:
            await connected.get(url)

    if client in ASYNC:
        asyncio.run(get())
        return
    with library.Client(event_hooks={"response": [check]}, **options) as connected:
        connected.get(url)


@each_httpx
def test_a_refusal_that_an_event_hook_raises_for_is_reported(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """The flow never receives that response; the next call has a new token all the same."""
    old = provider.stale_token()
    server.rule = refusing(old)
    auth = make_auth(client, provider=provider)
    with pytest.raises(library_of(client).HTTPStatusError):
        get_with_hook(client, auth, server.url)
    assert provider.refused == [old]
    get_with_hook(client, auth, server.url)
    assert server.tokens == [bearer(old), bearer(provider.token())]


def answer_with(answer: Answer, _: Seen) -> Answer:
    return answer


@each_httpx
def test_another_status_that_an_event_hook_raises_for_is_not_reported(
    client: str, server: HttpServer, provider: TestProvider
) -> None:
    """Nor is a 401 of another origin."""
    auth = make_auth(client, provider=provider)
    with HttpServer(refuse) as stranger:
        for answer in (Answer(403), redirect(stranger.url)):
            server.rule = partial(answer_with, answer)
            with pytest.raises(library_of(client).HTTPStatusError):
                get_with_hook(client, auth, server.url)
    assert provider.refused == []


@each_httpx
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


class SlowGate:
    """A flag that takes 50 ms."""

    def is_enabled(self, key: str, *, subject: str) -> bool:
        time.sleep(0.05)
        return True


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_call_waits_for_a_slow_flag_and_the_loop_continues(
    library: Any, backend: str
) -> None:
    """The call carries a token, under asyncio and under trio."""
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=SlowGate())
    auth = make_auth(library.__name__, provider=provider)
    tokens: list[str | None] = []
    ticks: list[float] = []

    def answer(request: Any) -> Any:
        tokens.append(request.headers.get("authorization"))
        return library.Response(200)

    async def tick() -> None:
        while not tokens:
            ticks.append(time.monotonic())
            await anyio.sleep(0.002)

    async def main() -> None:
        transport = library.MockTransport(answer)
        async with (
            library.AsyncClient(transport=transport, auth=auth) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(tick)
            await client.get("http://a.example/")

    anyio.run(main, backend=backend)
    assert tokens == [bearer(provider.token())]
    assert len(ticks) >= 5


@pytest.mark.skipif(not hasattr(httpx2, "alias_httpx"), reason="httpx2 before 2.9")
def test_httpx_auth_under_an_aliased_httpx() -> None:
    """After `httpx2.alias_httpx()` both adapters serve the one library."""
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
