"""The calls of the official MCP client: a session, and the protocol that has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from manor_mcp_interceptors.client.httpx2_auth import Httpx2Auth

from .report import Call, Report
from .servers import HttpServer, Servers

TIMEOUT: Final = 5.0
WITH_SESSION: Final = "legacy"
"""The handshake that opens a session: ``initialize``."""
WITHOUT_SESSION: Final = "2026-07-28"
"""The version of the protocol that has no sessions."""

Statuses = list[int]
"""The HTTP statuses of the answers: the client's errors do not contain them."""
Step = Callable[[Client, Call], Awaitable[None]]


async def call_mcp(servers: Servers, report: Report) -> None:
    """Initialize, list the tools and call one, in both forms of the protocol."""
    opened: dict[str, Step] = {"initialize": _initialize}
    steps: dict[str, Step] = {"list tools": _list_tools, "call whoami": _call_whoami}
    await _call("MCP session", WITH_SESSION, opened | steps, servers.mcp, report)
    await _call("MCP, no session", WITHOUT_SESSION, steps, servers.mcp, report)


async def _call(
    transport: str, mode: str, steps: dict[str, Step], server: HttpServer, report: Report
) -> None:
    statuses: Statuses = []
    async with AsyncExitStack() as stack:
        client: Client | None = None
        for what, step in steps.items():
            with report.call(transport, what, server.guestbook) as call:
                statuses.clear()
                try:
                    if client is None:  # also after the server refused to open one
                        client = await stack.enter_async_context(_client(server, mode, statuses))
                    await step(client, call)
                except Exception:
                    if not statuses or statuses[-1] < 400:  # noqa: PLR2004 - an HTTP error
                        raise
                    call.refuse(f"HTTP {statuses[-1]}")


@asynccontextmanager
async def _client(server: HttpServer, mode: str, statuses: Statuses) -> AsyncIterator[Client]:
    async def note(response: httpx2.Response) -> None:
        statuses.append(response.status_code)

    async with (
        httpx2.AsyncClient(
            auth=Httpx2Auth(), timeout=TIMEOUT, trust_env=False, event_hooks={"response": [note]}
        ) as http,
        Client(
            streamable_http_client(server.url, http_client=http), mode=mode, cache=None
        ) as client,
    ):
        yield client


async def _initialize(client: Client, call: Call) -> None:
    call.accept(f"MCP {client.protocol_version}")


async def _list_tools(client: Client, call: Call) -> None:
    call.accept(f"{len((await client.list_tools()).tools)} tools")


async def _call_whoami(client: Client, call: Call) -> None:
    result = await client.call_tool("whoami")
    texts = [part.text for part in result.content if isinstance(part, TextContent)]
    if result.is_error or not texts:
        raise RuntimeError(f"the tool answered {texts}")
    call.accept("result", texts[0])
