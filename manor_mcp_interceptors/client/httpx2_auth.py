"""`Httpx2Auth`: a token on every request of httpx2, sync and async."""

from __future__ import annotations

from typing import ClassVar

from ._httpx_flow import HttpxFlow

try:
    import httpx2
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx2":
        raise
    msg = "Httpx2Auth needs httpx2: pip install 'manor-mcp-interceptors[httpx2]'"
    raise ModuleNotFoundError(msg, name="httpx2") from _missing

__all__ = ["Httpx2Auth"]


class Httpx2Auth(HttpxFlow, httpx2.Auth):
    """Puts a token on each request of a `Client` or an `AsyncClient`.

    A request that is refused with 401 is sent once more where the token is renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    byte_stream: ClassVar[type] = httpx2.ByteStream
