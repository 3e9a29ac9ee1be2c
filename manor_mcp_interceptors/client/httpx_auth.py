"""`HttpxAuth`: a token on every request of httpx, sync and async."""

from __future__ import annotations

from typing import ClassVar

from manor_mcp_interceptors._optional import needs

from ._httpx_flow import HttpxFlow

with needs("httpx", "HttpxAuth"):
    import httpx

__all__ = ["HttpxAuth"]


class HttpxAuth(HttpxFlow, httpx.Auth):
    """Puts a token on each request of a `Client` or an `AsyncClient`.

    A request that is refused with 401 is sent once more where the token is renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    byte_stream: ClassVar[type] = httpx.ByteStream
