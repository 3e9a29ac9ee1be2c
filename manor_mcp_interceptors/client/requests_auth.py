"""`RequestsAuth`: a token on every call of requests."""

from __future__ import annotations

from collections.abc import Sequence

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._token_source import TokenSource

try:
    from requests import PreparedRequest
    from requests.auth import AuthBase
except ModuleNotFoundError as _missing:
    if _missing.name != "requests":
        raise
    msg = "RequestsAuth needs requests: pip install 'manor-mcp-interceptors[requests]'"
    raise ModuleNotFoundError(msg, name="requests") from _missing

__all__ = ["RequestsAuth"]


class RequestsAuth(AuthBase):
    """Puts a token on each request of a `requests.Session` or a single call."""

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

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token on `request`, where there is one."""
        decision = self._source.decision()
        if decision.authorization is not None:
            request.headers[HEADER_NAME] = decision.authorization
        return request
