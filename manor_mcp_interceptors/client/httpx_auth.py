"""`HttpxAuth`: a token on every request of httpx, sync and async."""

from __future__ import annotations

from typing import Any, ClassVar

from manor_mcp_interceptors._optional import needs

from ._httpx_flow import HttpxFlow, RefusalBody

with needs("httpx", "HttpxAuth"):
    import httpx

__all__ = ["HttpxAuth"]


class _RefusalBody(RefusalBody, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream of httpx."""


class HttpxAuth(HttpxFlow, httpx.Auth):
    """Puts a token on each request of a `Client` or an `AsyncClient`.

    A request that is refused with 401 is sent once more if the token can be renewed and the body
    can be sent again. A redirect to another origin gets no token. If an event hook raises
    `HTTPStatusError` for the 401, there is no second try, but the next request gets a new token.
    """

    library: ClassVar[Any] = httpx
    refusal_body: ClassVar[type] = _RefusalBody
