"""`HttpxAuth`: a token on every request of httpx, sync and async."""

from __future__ import annotations

from typing import ClassVar

from ._httpx_flow import HttpxFlow

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    msg = "HttpxAuth needs httpx: pip install 'manor-mcp-interceptors[httpx]'"
    raise ModuleNotFoundError(msg, name="httpx") from _missing

__all__ = ["HttpxAuth"]


class HttpxAuth(HttpxFlow, httpx.Auth):
    """Puts a token on each request of a `Client` or an `AsyncClient`.

    A request that is refused with 401 is sent once more where the token is renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    byte_stream: ClassVar[type] = httpx.ByteStream
