"""Services behind a proxy, for uvicorn: one that verifies tokens itself, and one that does not."""

from __future__ import annotations

from typing import Any

from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def open_service() -> Any:
    """Return what answers ``ok`` to everybody."""
    return _answer


def verifying_service() -> Any:
    """Return the same behind the middleware."""
    return TokenAuthMiddleware(_answer)
