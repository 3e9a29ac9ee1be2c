"""The handshake of the official MCP client, through our own adapter."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from manor_mcp_interceptors.client.httpx2_auth import Httpx2Auth
from manor_mcp_interceptors.provider import MCPTokenProvider

from .checks import Check, State
from .foreign import shown
from .http_call import TIMEOUT

PATIENCE: Final = 20.0
"""Seconds for the whole of it: the client waits for ever for an answer to its own question where
a server answers another one."""


def check_handshake(provider: MCPTokenProvider, url: str) -> Check:
    """Tell how far the official client gets."""
    try:
        return asyncio.run(asyncio.wait_for(_shake_hands(provider, url), PATIENCE))
    except Exception as error:
        finding = f"the official client failed: {_innermost(error)}"
        return Check("MCP handshake", State.WARNING, finding, "is this URL the MCP endpoint?")


async def _shake_hands(provider: MCPTokenProvider, url: str) -> Check:
    async with (
        httpx2.AsyncClient(auth=Httpx2Auth(provider=provider), timeout=TIMEOUT) as http,
        Client(streamable_http_client(url, http_client=http), cache=None) as client,
    ):
        tools = await client.list_tools()
        info = client.server_info
        name = "the server" if info is None else shown(f"{info.name} {info.version}".strip())
        details = (
            ("protocol", shown(str(client.protocol_version))),
            ("tools", str(len(tools.tools))),
        )
        return Check("MCP handshake", State.OK, f"done with {name}", "", details)


def _innermost(error: BaseException) -> str:
    """Name what stands at the bottom of nested groups; the type alone, as a text may tell all."""
    while (inner := getattr(error, "exceptions", None)) is not None:
        error = inner[0]
    return type(error).__name__
