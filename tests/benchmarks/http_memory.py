"""HTTP clients without a network: what is left is the client, and the auth."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import httpx
import httpx2
import requests
from requests.adapters import BaseAdapter

from manor_mcp_interceptors import Httpx2Auth, HttpxAuth, RequestsAuth

from ._harness import Bench, Row, Run, Table, calls, peer
from ._setup import header, process_wide

URL = "http://mcp.example.com/mcp"


def tables(bench: Bench) -> Iterator[Table]:
    """Compare each client's requests with and without auth; the header goes out either way."""
    with ExitStack() as stack:
        token = stack.enter_context(process_wide())
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        static = header(token)
        yield bench.compare(
            "HTTP in memory",
            [*_sync(static), *_async(loop, static, token)],
            unit="us",
            judged_by="cpu",
            rounds=201,
        )


def _sync(static: dict[str, str]) -> Iterator[Row]:
    for name, library, auth in (("httpx", httpx, HttpxAuth()), ("httpx2", httpx2, Httpx2Auth())):
        floor = f"{name}, static header"
        transport = library.MockTransport(lambda _request, library=library: library.Response(200))
        plain = library.Client(transport=transport, headers=static)
        ours = library.Client(transport=transport, auth=auth)
        yield Row(floor, get(plain), "floor", against=floor)
        yield Row(f"{name}, ours", get(ours), "ours", against=floor, at_most=1.05)
        fixed = library.Client(transport=transport, auth=_fixed(library, static))
        yield Row(f"{name}, the least an Auth can do", get(fixed), "floor", against=floor)
    plain_session, our_session = session(), session()
    plain_session.headers.update(static)
    our_session.auth = RequestsAuth()
    floor = "requests, static header"
    yield Row(floor, get(plain_session), "floor", against=floor)
    yield Row("requests, ours", get(our_session), "ours", against=floor, at_most=1.05)


def _fixed(library: Any, static: dict[str, str]) -> Any:
    """Return an auth that sets a fixed header, by the shorter of the libraries' two ways."""
    ((name, value),) = static.items()

    class Fixed(library.Auth):  # type: ignore[misc]
        def sync_auth_flow(self, request: Any) -> Iterator[Any]:
            request.headers[name] = value
            yield request

    return Fixed()


def _async(loop: Any, static: dict[str, str], token: str) -> Iterator[Row]:
    for name, library, auth in (("httpx", httpx, HttpxAuth()), ("httpx2", httpx2, Httpx2Auth())):
        floor = f"{name} async, static header"
        transport = library.MockTransport(lambda _request, library=library: library.Response(200))
        plain = library.AsyncClient(transport=transport, headers=static)
        ours = library.AsyncClient(transport=transport, auth=auth)
        yield Row(floor, get_async(loop, plain), "floor", against=floor)
        yield Row(f"{name} async, ours", get_async(loop, ours), "ours", against=floor, at_most=1.05)
        if library is httpx2:
            yield peer(
                "httpx2 async, FastMCP's BearerAuth (a fixed token)",
                lambda: get_async(loop, _with_bearer_auth(transport, token)),  # noqa: B023 - called at once
                against=floor,
            )


def _with_bearer_auth(transport: httpx2.MockTransport, token: str) -> httpx2.AsyncClient:
    bearer = import_module("fastmcp.client.auth").BearerAuth(token)
    return httpx2.AsyncClient(transport=transport, auth=bearer)


def get(client: Any, url: str = URL) -> Run:
    """Return a run of GET requests."""
    return calls(lambda: client.get(url))


def get_async(loop: asyncio.AbstractEventLoop, client: Any, url: str = URL) -> Run:
    """Return a run of GET requests, one after the other."""

    async def many(count: int) -> None:
        for _ in range(count):
            await client.get(url)

    return lambda count: loop.run_until_complete(many(count))


def session() -> requests.Session:
    """Return a session that answers 200 out of memory."""
    made = requests.Session()
    made.mount("http://", MemoryAdapter())
    made.trust_env = False  # a look for .netrc and proxies would drown everything else
    return made


class MemoryAdapter(BaseAdapter):
    """Answers 200 to everything."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.url = request.url or ""
        response.request = request
        response.raw = io.BytesIO(b"")
        return response

    def close(self) -> None:
        """Nothing is open."""
