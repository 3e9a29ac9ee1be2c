"""`HttpxAuth`: a token on every call of httpx, sync and async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._token_source import TokenSource

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    msg = "HttpxAuth needs httpx: pip install 'manor-mcp-interceptors[httpx]'"
    raise ModuleNotFoundError(msg, name="httpx") from _missing

__all__ = ["HttpxAuth"]


class HttpxAuth(httpx.Auth):
    """Puts a token on each request of a client."""

    def __init__(
        self,
        *,
        provider: MCPTokenProvider | None = None,
        audience: str | None = None,
        required: bool = False,
        allowed_hosts: Sequence[str] | None = None,
    ) -> None:
        self._source = TokenSource(provider, audience, required=required)
        self._allowed_hosts = allowed_hosts

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the token on `request`, where there is one."""
        decision = self._source.decision()
        if decision.authorization is not None:
            request.headers[HEADER_NAME] = decision.authorization
        yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """As `sync_auth_flow`."""
        decision = await self._source.decision_async()
        if decision.authorization is not None:
            request.headers[HEADER_NAME] = decision.authorization
        yield request
