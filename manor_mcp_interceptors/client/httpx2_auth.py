"""`Httpx2Auth`: a token on every call of httpx2, sync and async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._token_source import TokenSource

try:
    import httpx2
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx2":
        raise
    msg = "Httpx2Auth needs httpx2: pip install 'manor-mcp-interceptors[httpx2]'"
    raise ModuleNotFoundError(msg, name="httpx2") from _missing

__all__ = ["Httpx2Auth"]


class Httpx2Auth(httpx2.Auth):
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
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Put the token on `request`, where there is one."""
        decision = self._source.decision()
        if decision.authorization is not None:
            request.headers[HEADER_NAME] = decision.authorization
        yield request

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """As `sync_auth_flow`."""
        decision = await self._source.decision_async()
        if decision.authorization is not None:
            request.headers[HEADER_NAME] = decision.authorization
        yield request
