"""The loopback bridge: an MCP client that knows no tokens calls it, it calls the server with them.

FastMCP's proxy speaks the protocol. This module gives it the HTTP client that carries the tokens.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors.client._bearer_flow import UNAUTHORIZED
from manor_mcp_interceptors.client.mcp_http import READ_TIMEOUT, TIMEOUT, mcp_auth
from manor_mcp_interceptors.provider import MCPTokenProvider

from .output import print_line

with needs("fastmcp", "manor-mcp bridge"):
    from fastmcp.client.transports import StreamableHttpTransport
    from fastmcp.server.providers.proxy import FastMCPProxy, ProxyClient

from .demo.uvicorn_thread import serve

LOG_EVERY: Final = 60.0
"""Seconds in which the same failure is logged once."""


class Bridge:
    """Forwards what MCP clients ask to one server, with a token on each request.

    Each call opens an MCP session of its own with the server, so a server that was started again
    and a token that was renewed need nothing.
    """

    def __init__(self, url: str, provider: MCPTokenProvider) -> None:
        """Take the server's URL and the provider of the tokens for it."""
        auth = mcp_auth(provider=provider, required=True)
        transport = StreamableHttpTransport(url, httpx_client_factory=_client_factory(url, auth))
        # The handshake of the protocol before 2026 is what every server understands, and what
        # lets a server ask the client something.
        self._client: ProxyClient[Any] = ProxyClient(transport)
        self._proxy = FastMCPProxy(
            client_factory=self._client.new,
            # By default a server that refuses looks like one without tools.
            provider_error_strategy="raise",
            name="manor-mcp-bridge",
        )

    def problem(self) -> str | None:
        """Return why the server cannot be used now; None if a session was opened."""
        try:
            asyncio.run(self._connect())
        except Exception as error:
            return str(error.__cause__ or error)
        return None

    async def _connect(self) -> None:
        async with self._client.new():
            pass

    def run_stdio(self) -> None:
        """Serve one client on standard input and output until it closes them."""
        # The thread that reads standard input cannot be stopped: let the signal end the process.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._proxy.run("stdio", show_banner=False)

    def run_http(self, port: int, ready: Callable[[str], None]) -> None:
        """Serve the clients of this machine until SIGINT or SIGTERM.

        Args:
            port: 0 is any free port.
            ready: Called with the URL to use.

        Raises:
            OSError: The port cannot be used.
        """
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        # A web page must not reach the bridge under a name that leads to 127.0.0.1, whatever
        # FastMCP's own settings say.
        application = self._proxy.http_app(
            path="/mcp", host_origin_protection=True, allowed_hosts=[], allowed_origins=[]
        )
        with serve(application, port=port) as base:
            ready(f"{base}/mcp")
            while not stop.wait(1):  # a wait without a time-out is deaf to Ctrl+C on Windows
                pass


@contextmanager
def shown_log() -> Iterator[None]:
    """Show the warnings of this package as lines, and nothing that FastMCP logs."""
    logger, theirs = logging.getLogger("manor_mcp_interceptors"), logging.getLogger("fastmcp")
    lines, level = _Lines(), theirs.level
    logger.addHandler(lines)
    theirs.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.setLevel(level)
        logger.removeHandler(lines)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        print_line(record.getMessage())


def _client_factory(url: str, auth: Any) -> Any:
    """Return what makes the HTTP client of one session with the server."""
    library: Any = auth.library
    async_client: Any = library.AsyncClient
    throttle = LogThrottle(LOG_EVERY)

    def failure(text: str) -> str:
        message = f"{url} {text}"
        if throttle.due(text, time.monotonic()):
            log(logging.WARNING, "%s", message)
        return message

    class Client(async_client):  # type: ignore[misc]
        """Says in its errors what an MCP client can show to a person."""

        async def send(self, request: Any, **options: Any) -> Any:
            try:
                response = await super().send(request, **options)
            except library.TransportError as error:
                kind = type(error)
                raise kind(failure(f"cannot be reached ({kind.__name__})")) from error
            if response.status_code == UNAUTHORIZED:
                await response.aclose()
                text = failure("refused the token (401)")
                raise library.HTTPStatusError(text, request=request, response=response)
            return response

    def factory(*, timeout: Any = None, **_: Any) -> Any:
        # FastMCP passes the headers of the client that calls the bridge, its Authorization
        # among them (`forward_incoming_headers`). None of them may reach the server.
        return Client(auth=auth, timeout=timeout or library.Timeout(TIMEOUT, read=READ_TIMEOUT))

    return factory
