"""The calls over HTTP: with each adapter, sync and async, and without one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import requests

from manor_mcp_interceptors import get_auth_headers
from manor_mcp_interceptors.client.aiohttp_middleware import AiohttpAuth
from manor_mcp_interceptors.client.httpx2_auth import Httpx2Auth
from manor_mcp_interceptors.client.httpx_auth import HttpxAuth
from manor_mcp_interceptors.client.requests_auth import RequestsAuth

from .report import Call, Report
from .servers import HttpServer, Servers

CALLS: Final = (
    ("GET", "/whoami", None),
    ("POST", "/search", {"query": "token"}),
)
TIMEOUT: Final = 5.0


def call_http(servers: Servers, report: Report) -> None:
    """Call the HTTP service with every synchronous client.

    No client here uses the environment: a proxy that it names cannot reach the demo's servers.
    """
    server = servers.http
    with requests.Session() as session:
        session.trust_env = False
        session.auth = RequestsAuth()
        _call("requests", session, server, report)
    with httpx.Client(auth=HttpxAuth(), trust_env=False) as client:
        _call("httpx", client, server, report)
    with httpx2.Client(auth=Httpx2Auth(), trust_env=False) as client2:
        _call("httpx2", client2, server, report)
    _call_urllib("urllib, headers", server, report)


async def call_http_async(servers: Servers, report: Report) -> None:
    """Call the HTTP service with every asynchronous client."""
    async with httpx.AsyncClient(auth=HttpxAuth(), trust_env=False) as client:
        await _call_async("httpx async", client, servers.http, report)
    async with httpx2.AsyncClient(auth=Httpx2Auth(), trust_env=False) as client2:
        await _call_async("httpx2 async", client2, servers.http, report)
    async with aiohttp.ClientSession(middlewares=[AiohttpAuth()]) as session:
        await _call_aiohttp("aiohttp", session, servers.http, report)


def _call(transport: str, client: Any, server: HttpServer, report: Report) -> None:
    for method, path, body in CALLS:
        with report.call(transport, f"{method} {path}", server.guestbook) as call:
            response = client.request(method, server.url + path, json=body, timeout=TIMEOUT)
            _take(call, response.status_code, response.json())


async def _call_async(transport: str, client: Any, server: HttpServer, report: Report) -> None:
    for method, path, body in CALLS:
        with report.call(transport, f"{method} {path}", server.guestbook) as call:
            response = await client.request(method, server.url + path, json=body, timeout=TIMEOUT)
            _take(call, response.status_code, response.json())


async def _call_aiohttp(
    transport: str, session: aiohttp.ClientSession, server: HttpServer, report: Report
) -> None:
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    for method, path, body in CALLS:
        with report.call(transport, f"{method} {path}", server.guestbook) as call:
            async with session.request(
                method, server.url + path, json=body, timeout=timeout
            ) as response:
                _take(call, response.status, await response.json())


def _call_urllib(transport: str, server: HttpServer, report: Report) -> None:
    """Call with a client that has no adapter: `get_auth_headers` is for these."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for method, path, body in CALLS:
        with report.call(transport, f"{method} {path}", server.guestbook) as call:
            headers = {"Content-Type": "application/json", **get_auth_headers()}
            data = None if body is None else json.dumps(body).encode()
            url = server.url + path
            request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - http
            try:
                with opener.open(request, timeout=TIMEOUT) as response:
                    _take(call, response.status, json.load(response))
            except urllib.error.HTTPError as error:
                with error:
                    _take(call, error.code, json.load(error))


def _take(call: Call, status: int, body: dict[str, str]) -> None:
    if status == requests.codes.ok:
        call.accept(f"HTTP {status}", body["caller"])
    else:
        call.refuse(f"HTTP {status}")
