"""`Httpx2Auth`: a token on every request of httpx2, sync and async."""

from __future__ import annotations

from typing import ClassVar

from manor_mcp_interceptors._optional import needs

from ._httpx_flow import HttpxFlow

with needs("httpx2", "Httpx2Auth"):
    import httpx2

__all__ = ["Httpx2Auth"]


class Httpx2Auth(HttpxFlow, httpx2.Auth):
    """Puts a token on each request of a `Client` or an `AsyncClient`.

    A request that is refused with 401 is sent once more where the token is renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    byte_stream: ClassVar[type] = httpx2.ByteStream
