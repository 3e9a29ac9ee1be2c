"""HTTP clients against a server on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import httpx
import httpx2
import requests

from manor_mcp_interceptors import AiohttpAuth, Httpx2Auth, HttpxAuth, RequestsAuth

from ._harness import Bench, Row, Run, Table
from ._http_server import http_server
from ._setup import header, process_wide
from .http_memory import get, get_async


def tables(bench: Bench) -> Iterator[Table]:
    """Compare each client's requests with and without auth; the header goes out either way."""
    with ExitStack() as stack:
        static = header(stack.enter_context(process_wide()))
        url = stack.enter_context(http_server())
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        yield bench.compare(
            "HTTP over loopback",
            [
                *_sync(stack, url, static),
                *_async(stack, loop, url, static),
                *_aiohttp(stack, loop, url, static),
            ],
            unit="us",
            judged_by="cpu",
            rounds=101,
            sample_seconds=0.02,
        )


def _sync(stack: ExitStack, url: str, static: dict[str, str]) -> Iterator[Row]:
    plain: Any
    ours: Any
    for name, library, auth in (("httpx", httpx, HttpxAuth()), ("httpx2", httpx2, Httpx2Auth())):
        plain = stack.enter_context(library.Client(headers=static))
        ours = stack.enter_context(library.Client(auth=auth))
        yield from _pair(name, get(plain, url), get(ours, url))
    plain, ours = (stack.enter_context(requests.Session()) for _ in range(2))
    plain.trust_env = ours.trust_env = False
    plain.headers.update(static)
    ours.auth = RequestsAuth()
    yield from _pair("requests", get(plain, url), get(ours, url))


def _async(stack: ExitStack, loop: Any, url: str, static: dict[str, str]) -> Iterator[Row]:
    for name, library, auth in (("httpx", httpx, HttpxAuth()), ("httpx2", httpx2, Httpx2Auth())):
        plain = library.AsyncClient(headers=static)
        ours = library.AsyncClient(auth=auth)
        for client in (plain, ours):
            stack.callback(_close, loop, client)
        yield from _pair(f"{name} async", get_async(loop, plain, url), get_async(loop, ours, url))


def _aiohttp(stack: ExitStack, loop: Any, url: str, static: dict[str, str]) -> Iterator[Row]:
    async def session(**options: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(**options)  # a running loop is what it asks for

    plain = loop.run_until_complete(session(headers=static))
    ours = loop.run_until_complete(session(middlewares=[AiohttpAuth()]))
    for client in (plain, ours):
        stack.callback(_close, loop, client)
    yield from _pair("aiohttp", _get(loop, plain, url), _get(loop, ours, url))


def _get(loop: Any, session: aiohttp.ClientSession, url: str) -> Run:
    async def many(count: int) -> None:
        for _ in range(count):
            async with session.get(url) as reply:
                await reply.read()

    return lambda count: loop.run_until_complete(many(count))


def _close(loop: Any, client: Any) -> None:
    loop.run_until_complete(client.close() if hasattr(client, "close") else client.aclose())


def _pair(name: str, plain: Any, ours: Any) -> Iterator[Row]:
    floor = f"{name}, static header"
    yield Row(floor, plain, "floor", against=floor)
    yield Row(f"{name}, ours", ours, "ours", against=floor, at_most=1.02)
