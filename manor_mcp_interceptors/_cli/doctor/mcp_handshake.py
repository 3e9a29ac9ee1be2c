"""The handshake of the official MCP client, through the adapter of this library."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from manor_mcp_interceptors._cli.mcp_sdk import open_session
from manor_mcp_interceptors.client.mcp_http import mcp_http_client
from manor_mcp_interceptors.provider import MCPTokenProvider

from .answers import redact
from .checks import Check, State
from .http_call import TIMEOUT

DEADLINE: Final = 20.0
"""Seconds for all of it: the client waits for ever if the server answers another question."""


def check_handshake(provider: MCPTokenProvider, url: str) -> Check:
    """Report how far the official client gets."""
    http = mcp_http_client(timeout=TIMEOUT, provider=provider, follow_redirects=False)
    try:
        return asyncio.run(asyncio.wait_for(_shake_hands(http, url), DEADLINE))
    except Exception as error:
        finding = f"the official client failed: {_innermost(error)}"
        return Check("MCP handshake", State.WARNING, finding, "is this URL the MCP endpoint?")


async def _shake_hands(http: Any, url: str) -> Check:
    async with http, open_session(url, http) as (session, answer):
        tools = await session.list_tools()
        info = answer["serverInfo"]
        name = redact(f"{info['name']} {info['version']}".strip())
        details = (
            ("protocol", redact(str(answer["protocolVersion"]))),
            ("tools", str(len(tools.tools))),
        )
        return Check("MCP handshake", State.OK, f"done with {name}", "", details)


def _innermost(error: BaseException) -> str:
    """Return the type of the error inside nested groups; its text may hold a token."""
    while (inner := getattr(error, "exceptions", None)) is not None:
        error = inner[0]
    return type(error).__name__
