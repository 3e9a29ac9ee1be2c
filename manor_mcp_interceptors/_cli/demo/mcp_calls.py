"""The calls of the official MCP client: a session, and the protocol that has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from mcp import ClientSession

from manor_mcp_interceptors._cli.mcp_sdk import HAS_SESSIONLESS, open_session
from manor_mcp_interceptors.client.mcp_http import mcp_http_client

from .report import Call, Report
from .servers import HttpServer, Servers

TIMEOUT: Final = 5.0

Statuses = list[int]
"""The HTTP statuses of the answers: the client's errors do not contain them."""
Session = tuple[ClientSession, dict[str, Any]]
"""The session, and the server's answer to the request that opened it."""
Step = Callable[[Session, Call], Awaitable[None]]


async def call_mcp(servers: Servers, report: Report) -> None:
    """Open a session, list the tools and call one, in each form of the protocol."""
    steps: dict[str, Step] = {"list tools": _list_tools, "call whoami": _call_whoami}
    await _call(
        "MCP session", "initialize", {"initialize": _initialize} | steps, servers.mcp, report
    )
    if HAS_SESSIONLESS:
        await _call(
            "MCP, no session", "discover", {"discover": _discover} | steps, servers.mcp, report
        )


async def _call(
    transport: str, opening: str, steps: dict[str, Step], server: HttpServer, report: Report
) -> None:
    statuses: Statuses = []
    async with AsyncExitStack() as stack:
        session: Session | None = None
        for what, step in steps.items():
            with report.call(transport, what, server.guestbook) as call:
                statuses.clear()
                try:
                    if session is None:  # also after the server refused to open one
                        session = await stack.enter_async_context(_open(server, opening, statuses))
                    await step(session, call)
                except Exception:
                    if not statuses or statuses[-1] < 400:  # noqa: PLR2004 - an HTTP error
                        raise
                    call.refuse(f"HTTP {statuses[-1]}")


@asynccontextmanager
async def _open(server: HttpServer, opening: str, statuses: Statuses) -> AsyncIterator[Session]:
    async def note(response: Any) -> None:
        statuses.append(response.status_code)

    hooks = {"response": [note]}
    async with (
        mcp_http_client(timeout=TIMEOUT, trust_env=False, event_hooks=hooks) as http,
        open_session(server.url, http, opening) as session,
    ):
        yield session


async def _initialize(session: Session, call: Call) -> None:
    call.accept(f"MCP {session[1]['protocolVersion']}")


async def _discover(session: Session, call: Call) -> None:
    call.accept(f"MCP {session[1]['supportedVersions'][-1]}")


async def _list_tools(session: Session, call: Call) -> None:
    call.accept(f"{len((await session[0].list_tools()).tools)} tools")


async def _call_whoami(session: Session, call: Call) -> None:
    result = await session[0].call_tool("whoami")
    call.accept("result", "".join(getattr(part, "text", "") for part in result.content))
