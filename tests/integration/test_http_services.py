"""requests, httpx and httpx2 against a real HTTP service with the check in use today."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
import requests

from manor_mcp_interceptors import (
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
    get_auth_headers,
)
from manor_mcp_interceptors._cli.demo.guestbook import Guestbook
from manor_mcp_interceptors._cli.demo.http_service import http_service
from manor_mcp_interceptors._decision import token_cache
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.tokens import AccessToken, mint
from tests.support import SECRET, StaticGate, legacy_check
from tests.support.asgi_recorder import Recorder
from tests.support.uvicorn_server import serve

Get = Callable[[str], tuple[int, dict[str, str]]]


def get_requests(url: str) -> tuple[int, dict[str, str]]:
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(url, auth=RequestsAuth(), timeout=5)
        return response.status_code, response.json()


def get_httpx(url: str) -> tuple[int, dict[str, str]]:
    with httpx.Client(auth=HttpxAuth(), trust_env=False) as client:
        response = client.get(url)
        return response.status_code, response.json()


def get_httpx2(url: str) -> tuple[int, dict[str, str]]:
    with httpx2.Client(auth=Httpx2Auth(), trust_env=False) as client:
        response = client.get(url)
        return response.status_code, response.json()


def get_httpx_async(url: str) -> tuple[int, dict[str, str]]:
    async def get() -> tuple[int, dict[str, str]]:
        async with httpx.AsyncClient(auth=HttpxAuth(), trust_env=False) as client:
            response = await client.get(url)
            return response.status_code, response.json()

    return asyncio.run(get())


def get_httpx2_async(url: str) -> tuple[int, dict[str, str]]:
    async def get() -> tuple[int, dict[str, str]]:
        async with httpx2.AsyncClient(auth=Httpx2Auth(), trust_env=False) as client:
            response = await client.get(url)
            return response.status_code, response.json()

    return asyncio.run(get())


def get_with_own_headers(url: str) -> tuple[int, dict[str, str]]:
    with httpx.Client(trust_env=False) as client:
        response = client.get(url, headers=get_auth_headers())
        return response.status_code, response.json()


every_client = pytest.mark.parametrize(
    "get",
    [
        get_requests,
        get_httpx,
        get_httpx_async,
        get_httpx2,
        get_httpx2_async,
        get_with_own_headers,
    ],
)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, Recorder]]:
    """Serve the service once for all tests; each starts with an empty record."""
    recorder = Recorder(http_service(Settings(secret=SECRET), Guestbook()))
    with serve(recorder) as url:
        yield f"{url}/whoami", recorder


@pytest.fixture
def server(service: tuple[str, Recorder]) -> tuple[str, Recorder]:
    """Return the service's URL and its empty record."""
    service[1].authorizations.clear()
    return service


@every_client
def test_the_service_knows_the_caller(get: Get, server: tuple[str, Recorder]) -> None:
    """With the flag on, the check in use today accepts the one token that arrives."""
    url, recorder = server
    settings = Settings(secret=SECRET, subject="service-a")
    MCPTokenProvider.configure(settings=settings, gate=StaticGate())

    assert get(url) == (200, {"caller": "service-a"})

    (token,) = recorder.tokens()
    assert legacy_check(token)["sub"] == "service-a"


@every_client
def test_with_the_flag_off_the_request_goes_out_bare(
    get: Get, server: tuple[str, Recorder]
) -> None:
    """The server refuses, and the application gets the 401 like any other answer."""
    url, recorder = server
    MCPTokenProvider.configure(settings=Settings(secret=SECRET), gate=StaticGate(on=False))

    assert get(url) == (401, {"detail": "invalid token"})

    assert recorder.authorizations == [[]]


def test_loops_and_threads_share_one_token(
    server: tuple[str, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two event loops and two plain threads that start together mint once between them."""
    url, recorder = server
    # Counted, because two tokens of the same second are the same text.
    minted: list[AccessToken] = []

    def counted(settings: Settings, key: SharedSecret, now: float) -> AccessToken:
        minted.append(mint(settings, key, now))
        return minted[-1]

    monkeypatch.setattr(token_cache, "mint", counted)
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate())
    together = threading.Barrier(4)
    statuses: list[int] = []

    async def many_async() -> None:
        async with httpx.AsyncClient(auth=HttpxAuth(provider=provider), trust_env=False) as client:
            together.wait()
            answers = await asyncio.gather(*(client.get(url) for _ in range(10)))
        statuses.extend(answer.status_code for answer in answers)

    def many() -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = RequestsAuth(provider=provider)
            together.wait()
            statuses.extend(session.get(url, timeout=5).status_code for _ in range(10))

    run_together([lambda: asyncio.run(many_async())] * 2 + [many] * 2)

    assert statuses == [200] * 40
    assert len(recorder.tokens()) == 40
    assert set(recorder.tokens()) == {token.value for token in minted}
    assert len(minted) == 1


def run_together(jobs: list[Callable[[], Any]]) -> None:
    """Run each job in a thread of its own, to its end."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
