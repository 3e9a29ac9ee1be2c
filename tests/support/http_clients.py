"""One interface to the clients that the HTTP adapters serve, and a provider that counts."""

from __future__ import annotations

import asyncio
import functools
import io
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import requests

from manor_mcp_interceptors import (
    AiohttpAuth,
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
)
from tests.support import SECRET, FakeClock, StaticGate

SYNC = ["requests", "httpx", "httpx2"]
ASYNC = ["httpx-async", "httpx2-async", "aiohttp"]
CLIENTS = [*SYNC, *ASYNC]
HTTPX = [client for client in CLIENTS if client.startswith("httpx")]
OFFSET = 7
"""The position in a file at which the body begins, in bytes."""
TIMEOUT = 20


class TestProvider(MCPTokenProvider):
    """A provider on a clock that stands still, which counts the refusals."""

    __slots__ = ("clock", "gate", "refused")
    __test__ = False

    def __init__(self, clock: FakeClock | None = None, **settings: Any) -> None:
        self.clock = clock or FakeClock()
        self.gate = StaticGate()
        super().__init__(
            Settings(**{"secret": SECRET, **settings}), gate=self.gate, clock=self.clock
        )
        self.refused: list[str] = []

    def invalidate(self, token: str) -> None:
        self.refused.append(token)
        super().invalidate(token)

    def stale_token(self) -> str:
        """Return the current token, now old enough to be replaced when it is refused."""
        token = self.token()
        assert token is not None
        self.clock.advance(60)
        return token

    def switch_off(self) -> None:
        """Turn the flag off, and let the lease of the last decision end."""
        self.gate.on = False
        self.clock.advance(2)


def bearer(token: str | None) -> str:
    return f"Bearer {token}"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    history: list[int]
    """The statuses of the responses before this one."""


def make_auth(client: str, **options: Any) -> Any:
    kinds: dict[str, Callable[..., Any]] = {
        "requests": RequestsAuth,
        "httpx": HttpxAuth,
        "httpx2": Httpx2Auth,
        "aiohttp": AiohttpAuth,
    }
    return kinds[client.removesuffix("-async")](**options)


def call(
    client: str, auth: Any, method: str, url: str, *, ca: Path | None = None, **options: Any
) -> Reply:
    """Make one call with a new client that follows redirects."""
    if client == "requests":
        with requests.Session() as session:
            session.auth = auth
            session.trust_env = False
            verify = str(ca) if ca else True
            reply = session.request(method, url, timeout=TIMEOUT, verify=verify, **options)
            return Reply(reply.status_code, reply.content, [r.status_code for r in reply.history])
    if client == "aiohttp":
        return asyncio.run(_call_aiohttp(auth, method, url, ssl=_trust(ca), **options))
    library = library_of(client)
    common = {
        "auth": auth,
        "follow_redirects": True,
        "trust_env": False,
        "timeout": TIMEOUT,
        "verify": _trust(ca),
    }
    if client in SYNC:
        with library.Client(**common) as connected:
            return _reply(connected.request(method, url, **options))

    async def request() -> Reply:
        async with library.AsyncClient(**common) as connected:
            return _reply(await connected.request(method, url, **options))

    return asyncio.run(request())


async def _call_aiohttp(auth: Any, method: str, url: str, **options: Any) -> Reply:
    statuses = []

    async def note(request: Any, handler: Any) -> Any:
        response = await handler(request)
        statuses.append(response.status)
        return response

    async with (
        aiohttp_session(auth, note) as session,
        session.request(method, url, **options) as reply,
    ):
        answer = Reply(reply.status, await reply.read(), statuses[:-1])
    await asyncio.sleep(0.01)  # aiohttp still closes the connection whose upload a redirect ended
    return answer


def aiohttp_session(*middlewares: Any, **options: Any) -> aiohttp.ClientSession:
    """Return a session that takes cookies from an IP address as well."""
    return aiohttp.ClientSession(
        middlewares=middlewares,
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(TIMEOUT),
        **options,
    )


@functools.cache
def _trust(ca: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)  # which takes longer than a whole test


def library_of(client: str) -> Any:
    return httpx if client.startswith("httpx-") or client == "httpx" else httpx2


def _reply(reply: Any) -> Reply:
    return Reply(reply.status_code, reply.content, [r.status_code for r in reply.history])


BODIES = [
    "none",
    "bytes",
    "text",
    "json",
    "form",
    "multipart",
    "file",
    "multipart-file",
    "generator",
    "iterator",
    "async-generator",
    "async-file",
]


def bodies_of(client: str) -> list[str]:
    """Return the bodies that the client takes: async ones in async clients alone."""
    if client in SYNC:
        return [body for body in BODIES if not body.startswith("async")]
    unknown = (
        {"generator", "iterator"} if client == "aiohttp" else {"file", "generator", "iterator"}
    )
    return [body for body in BODIES if body not in unknown]


def can_be_sent_again(body: str) -> bool:
    return body not in {"generator", "iterator", "async-generator", "async-file"}


def body_options(client: str, body: str, payload: bytes) -> dict[str, Any]:
    """Return the arguments of a request with that body, new at each call."""
    content = "content" if client in HTTPX else "data"
    text = payload.decode("ascii")
    options: dict[str, Callable[[], dict[str, Any]]] = {
        "none": dict,
        "bytes": lambda: {content: payload},
        "text": lambda: {content: text},
        "json": lambda: {"json": {"text": text}},
        "form": lambda: {"data": {"text": text}},
        "multipart": lambda: part_options(client, payload),
        "file": lambda: _file(client, content, payload),
        "multipart-file": lambda: part_options(client, io.BytesIO(payload)),
        "generator": lambda: {content: _chunks(payload)},
        "iterator": lambda: {content: iter(list(_chunks(payload)))},
        "async-generator": lambda: {content: _async_chunks(payload)},
        "async-file": lambda: {content: AsyncFile(payload)},
    }
    return options[body]()


def part_options(client: str, content: Any) -> dict[str, Any]:
    """Return the arguments of a request with one file in a form."""
    if client == "aiohttp":
        form = aiohttp.FormData()
        form.add_field("part", content, filename="name.bin")
        return {"data": form}
    return {"files": {"part": ("name.bin", content)}}


def _file(client: str, content: str, payload: bytes) -> dict[str, Any]:
    file = io.BytesIO(b"x" * OFFSET + payload)
    file.seek(OFFSET)
    if client not in HTTPX:
        return {content: file}
    # httpx itself counts the whole file.
    return {content: file, "headers": {"Content-Length": str(len(payload))}}


def _chunks(payload: bytes) -> Iterator[bytes]:
    for start in range(0, len(payload), 65_536):
        yield payload[start : start + 65_536]


async def _async_chunks(payload: bytes) -> AsyncIterator[bytes]:
    for chunk in _chunks(payload):
        yield chunk


class AsyncFile:
    """A file whose reads are awaited, as anyio's and aiofiles' are."""

    def __init__(self, payload: bytes) -> None:
        self._file = io.BytesIO(payload)

    async def aread(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _async_chunks(self._file.read())
