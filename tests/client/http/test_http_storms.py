"""Many calls at once through one auth object: few mints, and no call waits for another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from manor_mcp_interceptors._keys.tokens import AccessToken, mint
from tests.support.http_clients import (
    ASYNC,
    SYNC,
    TestProvider,
    aiohttp_session,
    bearer,
    call,
    library_of,
    make_auth,
)
from tests.support.http_server import Answer, HttpServer, Seen, ok, refuse

pytestmark = pytest.mark.slow

CALLERS = 50
PATIENCE = 30.0
"""Seconds until a call that waits for others counts as stuck."""


class Crowd:
    """A rule that answers when `size` requests are there, and so proves that they overlap."""

    def __init__(self, size: int, old: str | None = None) -> None:
        self._barrier = threading.Barrier(size, timeout=PATIENCE)
        self._old = old

    def __call__(self, seen: Seen) -> Answer:
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            return Answer(500)
        return refuse(seen) if seen.authorization == bearer(self._old) else ok(seen)


def call_at_once(client: str, auth: Any, url: str, count: int) -> list[int]:
    """Make `count` calls through one auth object, each on another thread or task."""
    if client in SYNC:
        with ThreadPoolExecutor(count) as pool:
            calls = [pool.submit(call, client, auth, "GET", url) for _ in range(count)]
            return [made.result().status for made in calls]

    async def status(session: aiohttp.ClientSession) -> int:
        async with session.get(url) as reply:
            return reply.status

    async def gather() -> list[int]:
        if client == "aiohttp":
            async with aiohttp_session(auth) as session:
                return await asyncio.gather(*(status(session) for _ in range(count)))
        library = library_of(client)
        async with library.AsyncClient(auth=auth, trust_env=False, timeout=PATIENCE) as connected:
            replies = await asyncio.gather(*(connected.get(url) for _ in range(count)))
            return [reply.status_code for reply in replies]

    return asyncio.run(gather())


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.mark.parametrize("client", [*SYNC, *ASYNC])
def test_many_calls_with_the_same_stale_token_mint_once(client: str, server: HttpServer) -> None:
    """Every call is served; each of the two waves is at the server at once."""
    provider = TestProvider()
    old = provider.stale_token()
    server.start_over(Crowd(CALLERS, old))
    auth = make_auth(client, provider=provider)
    assert call_at_once(client, auth, server.url, CALLERS) == [200] * CALLERS
    assert provider.stats().mints == 2
    assert sorted(map(str, server.tokens)) == sorted(
        [bearer(old)] * CALLERS + [bearer(provider.token())] * CALLERS
    )


@pytest.mark.parametrize("client", [*SYNC, *ASYNC])
def test_many_calls_that_are_always_refused_mint_once_per_margin(
    client: str, server: HttpServer
) -> None:
    """Then each call is one request, however many there are at once."""
    provider = TestProvider()
    provider.stale_token()
    server.start_over(refuse)
    auth = make_auth(client, provider=provider)
    assert call_at_once(client, auth, server.url, CALLERS) == [401] * CALLERS
    assert provider.stats().mints == 2
    for rounds in range(3):
        server.start_over(refuse)
        provider.clock.advance(31)  # a margin
        assert call_at_once(client, auth, server.url, CALLERS) == [401] * CALLERS
        assert provider.stats().mints == 3 + rounds
        assert len(server.seen) == CALLERS  # the refused token was renewed before it was sent


@pytest.mark.parametrize("client", [*SYNC, *ASYNC])
def test_slow_calls_overlap(client: str, server: HttpServer) -> None:
    """Twenty take as long as one: each is answered only when all are at the server."""
    server.start_over(Crowd(20))
    auth = make_auth(client, provider=TestProvider())
    assert call_at_once(client, auth, server.url, 20) == [200] * 20


def test_a_refused_token_is_not_returned_while_a_new_one_is_minted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second call that starts meanwhile waits for the mint of the first one."""
    provider = TestProvider()
    old = provider.stale_token()
    got: list[str | None] = []
    second = threading.Thread(target=lambda: got.append(provider.token()))

    def slow_mint(*args: Any) -> AccessToken:
        second.start()
        second.join(0.1)  # it cannot end here, unless it returns the refused token
        return mint(*args)

    monkeypatch.setattr("manor_mcp_interceptors._decision.token_cache.mint", slow_mint)
    provider.invalidate(old)
    new = provider.token()
    second.join()
    assert got == [new]
    assert new != old
