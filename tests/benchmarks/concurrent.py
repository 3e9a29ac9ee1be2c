"""Twenty slow calls at once through one auth object: does one wait for another?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import httpx
import httpx2

from manor_mcp_interceptors import Httpx2Auth, HttpxAuth

from ._harness import Bench, Row, Run, Table, peer
from ._http_server import http_server
from ._setup import process_wide

CALLS = 20
SECONDS = 0.05


def tables(bench: Bench) -> Iterator[Table]:
    """Compare the time of twenty calls at once with that of one."""
    with ExitStack() as stack:
        token = stack.enter_context(process_wide())
        url = stack.enter_context(http_server(SECONDS))
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)

        def at_once(library: Any, auth: Any, count: int = CALLS) -> Run:
            client = library.AsyncClient(auth=auth)
            stack.callback(lambda: loop.run_until_complete(client.aclose()))
            return together(loop, client, url, count)

        one, twenty = "httpx2, one call, no auth", "httpx2, 20 calls, no auth"
        yield bench.compare(
            f"{CALLS} calls of {SECONDS * 1000:.0f} ms at once",
            [
                Row(one, at_once(httpx2, None, 1), "floor"),
                Row(twenty, at_once(httpx2, None), "floor"),
                Row(
                    "httpx2, 20 calls, ours",
                    at_once(httpx2, Httpx2Auth()),
                    "ours",
                    against=twenty,
                    at_most=1.05,
                ),
                Row("httpx, 20 calls, no auth", at_once(httpx, None), "floor"),
                Row(
                    "httpx, 20 calls, ours",
                    at_once(httpx, HttpxAuth()),
                    "ours",
                    against="httpx, 20 calls, no auth",
                    at_most=1.05,
                ),
                peer(
                    "httpx2, 20 calls, the MCP SDK's OAuth provider",
                    lambda: at_once(httpx2, mcp_oauth(url, token)),
                ),
            ],
            unit="ms",
            rounds=15,
        )


def together(loop: asyncio.AbstractEventLoop, client: Any, url: str, count: int) -> Run:
    """Return a run of `count` requests at once, over connections that are open already."""

    async def all_at_once() -> None:
        await asyncio.gather(*(client.get(url) for _ in range(count)))

    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            loop.run_until_complete(all_at_once())
        return time.perf_counter() - start

    return run


def mcp_oauth(url: str, token: str) -> Any:
    """Return the SDK's client-side provider, holding a token that is valid for an hour."""
    auth = import_module("mcp.client.auth")
    shared = import_module("mcp.shared.auth")
    held = shared.OAuthToken(access_token=token, expires_in=3600)
    metadata = shared.OAuthClientMetadata(redirect_uris=["http://127.0.0.1/callback"])

    class Storage:
        async def get_tokens(self) -> Any:
            return held

        async def set_tokens(self, tokens: Any) -> None:
            """Never needed: the token is valid."""

        async def get_client_info(self) -> Any:
            return None

        async def set_client_info(self, client_info: Any) -> None:
            """Never needed: there is no registration."""

    return auth.OAuthClientProvider(url, metadata, Storage())
