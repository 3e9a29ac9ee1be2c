"""How each framework is given a token: the lines that docs/frameworks.md quotes, and that are run.

A recipe is an async context. The docs quote its lines down to the comment ``called:``; those below
call the framework as an agent would, without a model. Each recipe is executed in an environment of
its own, so a framework is imported only by its recipe.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from manor_mcp_interceptors import get_auth_headers, mcp_auth, mcp_http_client

Tools = tuple[Iterable[str], Callable[[str], Awaitable[object]]]
"""The names of the server's tools, and what calls one of them without arguments."""
Steps = Callable[[str], AsyncIterator[Tools]]


@dataclass(frozen=True)
class Recipe:
    """One row of the table."""

    name: str
    install: str
    """What pip installs beside this package."""
    hook: str
    steps: Steps
    package: str
    """The distribution whose version is reported."""
    short: bool = False
    """Belongs to the short list."""
    bridge: bool = False
    """Takes fixed headers only: it calls the bridge, not the server."""
    fallback: str = ""
    """What is installed as well if the framework does not run with the newest mcp."""

    def quoted(self) -> str:
        """Return the lines for a reader."""
        _, _, body = inspect.getsource(self.steps).partition(") -> AsyncIterator[Tools]:\n")
        lines = textwrap.dedent(body.partition("# called:")[0]).strip()
        return f"{lines}\n    ..." if lines.endswith(":") else lines


RECIPES: dict[str, Recipe] = {}


def recipe(name: str, install: str, hook: str, **more: Any) -> Callable[[Steps], Steps]:
    """Register the function as the recipe of a framework."""
    package = install.partition("[")[0].partition("<")[0].partition(">")[0]

    def register(steps: Steps) -> Steps:
        RECIPES[name] = Recipe(name, install, hook, steps, package, **more)
        return steps

    return register


def names(tools: Iterable[Any]) -> list[str]:
    return [tool.name for tool in tools]


@recipe("mcp 2", "mcp>=2", "`http_client=`", short=True)
async def mcp_2(url: str) -> AsyncIterator[Tools]:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async with (
        mcp_http_client() as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        # called:
        yield names((await client.list_tools()).tools), client.call_tool


@recipe("mcp 1", "mcp<2", "`auth=`", short=True)
async def mcp_1(url: str) -> AsyncIterator[Tools]:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with (
        streamablehttp_client(url, auth=mcp_auth()) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        # called:
        await session.initialize()
        yield names((await session.list_tools()).tools), session.call_tool


async def fastmcp(url: str) -> AsyncIterator[Tools]:
    from fastmcp import Client

    async with Client(url, auth=mcp_auth()) as client:
        # called:
        yield names(await client.list_tools()), client.call_tool


recipe("fastmcp 4", "fastmcp>=4", "`auth=`", short=True)(fastmcp)
recipe("fastmcp 3", "fastmcp<4", "`auth=`", short=True)(fastmcp)


@recipe("fastmcp proxy", "fastmcp", "`auth=` of the client")
async def fastmcp_proxy(url: str) -> AsyncIterator[Tools]:
    from fastmcp import Client
    from fastmcp.server import create_proxy

    proxy = create_proxy(Client(url, auth=mcp_auth()))
    # called:
    async with Client(proxy) as client:
        yield names(await client.list_tools()), client.call_tool


@recipe(
    "langchain-mcp-adapters", "langchain-mcp-adapters", '`"auth"` of the connection', short=True
)
async def langchain(url: str) -> AsyncIterator[Tools]:
    from langchain_mcp_adapters.client import MultiServerMCPClient

    client = MultiServerMCPClient({"search": {"transport": "http", "url": url, "auth": mcp_auth()}})
    # called:
    tools = {tool.name: tool for tool in await client.get_tools()}
    yield tools, lambda name: tools[name].ainvoke({})


@recipe("openai-agents", "openai-agents", '`"auth"` of `params`', short=True)
async def openai_agents(url: str) -> AsyncIterator[Tools]:
    from agents.mcp import MCPServerStreamableHttp

    server = MCPServerStreamableHttp(
        {"url": url, "auth": mcp_auth()}, client_session_timeout_seconds=60
    )
    # called:
    async with server:
        yield names(await server.list_tools()), lambda name: server.call_tool(name, {})


@recipe("pydantic-ai", "pydantic-ai-slim[mcp]", "`auth=`")
async def pydantic_ai(url: str) -> AsyncIterator[Tools]:
    from pydantic_ai.mcp import MCPToolset

    toolset = MCPToolset(url, auth=mcp_auth())
    # called:
    async with toolset:
        yield names(await toolset.list_tools()), lambda name: toolset.direct_call_tool(name, {})


@recipe("google-adk", "google-adk[mcp]", "`httpx_client_factory=`")
async def google_adk(url: str) -> AsyncIterator[Tools]:
    from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams

    toolset = McpToolset(
        connection_params=StreamableHTTPConnectionParams(
            url=url, httpx_client_factory=mcp_http_client
        )
    )
    # called:
    async for tools in adk_tools(toolset):
        yield tools


@recipe("google-adk headers", "google-adk[mcp]", "`header_provider=`")
async def google_adk_headers(url: str) -> AsyncIterator[Tools]:
    from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams

    toolset = McpToolset(
        connection_params=StreamableHTTPConnectionParams(url=url),
        header_provider=lambda _: get_auth_headers(),
    )
    # called:
    async for tools in adk_tools(toolset):
        yield tools


async def adk_tools(toolset: Any) -> AsyncIterator[Tools]:
    from unittest.mock import MagicMock  # an agent's run, which the tools do not need

    context = MagicMock()
    tools = {tool.name: tool for tool in await toolset.get_tools(context)}
    yield tools, lambda name: tools[name].run_async(args={}, tool_context=context)
    await toolset.close()


@recipe("strands-agents", "strands-agents", "`auth_provider=`")
async def strands(url: str) -> AsyncIterator[Tools]:
    from strands.tools.mcp import MCPClient

    client = MCPClient(url=url, auth_provider=mcp_auth())
    # called:
    with client:
        tools = [tool.tool_name for tool in client.list_tools_sync()]
        yield tools, lambda name: client.call_tool_async("1", name, {})


@recipe("llama-index-tools-mcp", "llama-index-tools-mcp", "`auth=`")
async def llama_index(url: str) -> AsyncIterator[Tools]:
    from llama_index.tools.mcp import BasicMCPClient

    client = BasicMCPClient(url, auth=mcp_auth())
    # called:
    yield names((await client.list_tools()).tools), client.call_tool


@recipe("autogen-ext", "autogen-ext[mcp]", "a field `auth` of the parameters", fallback="mcp<2")
async def autogen(url: str) -> AsyncIterator[Tools]:
    from autogen_ext.tools.mcp import StreamableHttpServerParams, mcp_server_tools

    class Params(StreamableHttpServerParams):  # passes each of its fields to the MCP SDK
        auth: Any

    tools = await mcp_server_tools(Params(url=url, auth=mcp_auth()))
    # called:
    from autogen_core import CancellationToken

    by_name = {tool.name: tool for tool in tools}
    yield by_name, lambda name: by_name[name].run_json({}, CancellationToken())


@recipe("crewai-tools", "crewai-tools[mcp]", '`"auth"` of the parameters')
async def crewai_tools(url: str) -> AsyncIterator[Tools]:
    from crewai_tools import MCPServerAdapter

    adapter = MCPServerAdapter({"url": url, "transport": "streamable-http", "auth": mcp_auth()})
    # called:
    with adapter as tools:
        yield names(tools), lambda name: asyncio.to_thread(tools[name].run)


@recipe("crewai", "crewai", "headers only: the bridge", bridge=True)
async def crewai(url: str) -> AsyncIterator[Tools]:
    from crewai.mcp import MCPServerHTTP

    server = MCPServerHTTP(url=url)  # Agent(mcps=[server])
    # called:
    from crewai.mcp.client import MCPClient
    from crewai.mcp.transports.http import HTTPTransport

    async with MCPClient(HTTPTransport(server.url)) as client:
        yield [tool["name"] for tool in await client.list_tools()], client.call_tool


@recipe("huggingface_hub", "huggingface_hub[mcp]", "headers only: the bridge", bridge=True)
async def huggingface_hub(url: str) -> AsyncIterator[Tools]:
    from huggingface_hub import MCPClient

    client = MCPClient(model="…")
    await client.add_mcp_server("http", url=url)
    # called:
    async with client:
        yield client.sessions, lambda name: client.sessions[name].call_tool(name, {})


@recipe("smolagents", "smolagents[mcp]", '`"auth"` of the parameters', fallback="mcp<2")
async def smolagents(url: str) -> AsyncIterator[Tools]:
    from smolagents import MCPClient

    client = MCPClient({"url": url, "transport": "streamable-http", "auth": mcp_auth()})
    # called:
    with client as tools:
        by_name = {tool.name: tool for tool in tools}
        yield by_name, lambda name: asyncio.to_thread(by_name[name])


@recipe("mcpadapt", "mcpadapt", '`"auth"` of the parameters', fallback="mcp<2")
async def mcpadapt(url: str) -> AsyncIterator[Tools]:
    from mcpadapt.core import mcptools

    async with mcptools({"url": url, "transport": "streamable-http", "auth": mcp_auth()}) as (
        session,
        tools,
    ):
        # called:
        yield names(tools), session.call_tool


@recipe("agent-framework", "agent-framework", "`http_client=`")
async def agent_framework(url: str) -> AsyncIterator[Tools]:
    from agent_framework import MCPStreamableHTTPTool

    tool = MCPStreamableHTTPTool("search", url, http_client=mcp_http_client())

    # called:
    async def call(name: str) -> list[str]:
        return [str(content.text) for content in await tool.call_tool(name)]

    async with tool:
        yield names(tool.functions), call


@recipe("semantic-kernel", "semantic-kernel[mcp]", "`auth=`")
async def semantic_kernel(url: str) -> AsyncIterator[Tools]:
    from semantic_kernel.connectors.mcp import MCPStreamableHttpPlugin

    plugin = MCPStreamableHttpPlugin("search", url, auth=mcp_auth())
    # called:
    async with plugin:
        yield names((await plugin.session.list_tools()).tools), plugin.call_tool


@recipe("dspy", "dspy[mcp]", "a session of your own")
async def dspy(url: str) -> AsyncIterator[Tools]:
    import dspy
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async with (
        mcp_http_client() as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        tools = [
            dspy.Tool.from_mcp_tool(client, tool) for tool in (await client.list_tools()).tools
        ]
        # called:
        by_name = {tool.name: tool for tool in tools}
        yield by_name, lambda name: by_name[name].acall()


@recipe("mcp-haystack", "mcp-haystack", "`oauth_config=`")
async def haystack(url: str) -> AsyncIterator[Tools]:
    from haystack.utils import Secret
    from haystack_integrations.tools.mcp import MCPToolset, OAuthConfig, StreamableHttpServerInfo

    class Token(OAuthConfig):  # what it creates is passed to the MCP SDK as it is
        def create_auth(self, server_url: str) -> Any:
            return mcp_auth()

    toolset = MCPToolset(
        StreamableHttpServerInfo(url, oauth_config=Token("-", Secret.from_token("-")))
    )
    # called:
    toolset.warm_up()
    tools = {tool.name: tool for tool in toolset}
    yield tools, lambda name: asyncio.to_thread(tools[name].invoke)
    toolset.close()


@recipe("mcp-use", "mcp-use", '`"auth"` of the server')
async def mcp_use(url: str) -> AsyncIterator[Tools]:
    from mcp_use import MCPClient

    client = MCPClient({"mcpServers": {"search": {"url": url, "auth": mcp_auth()}}})
    # called:
    session = await client.create_session("search")
    yield names(await session.list_tools()), lambda name: session.call_tool(name, {})
    await client.close_all_sessions()
