"""An HTTP service that checks its callers as services do today."""

# No `from __future__ import annotations`: FastAPI resolves annotations among the module's names.
from collections.abc import Callable

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException

from manor_mcp_interceptors._bearer import parse_bearer

from .guestbook import NO_TOKEN, REFUSED, Guestbook


def http_service(secret: str, guestbook: Guestbook) -> FastAPI:
    """Return a service that answers each request with its caller's name."""
    caller = Depends(_check(secret, guestbook))
    service = FastAPI(openapi_url=None)

    @service.get("/whoami")
    def whoami(caller: str = caller) -> dict[str, str]:
        return {"caller": caller}

    @service.post("/search")
    def search(query: dict[str, str], caller: str = caller) -> dict[str, str]:
        return {"caller": caller, "query": query["query"]}

    return service


def _check(secret: str, guestbook: Guestbook) -> Callable[..., str]:
    MCP_AUTH_SECRET = secret  # noqa: N806 - the check below is copied from services in use

    def caller(authorization: str = Header("")) -> str:
        token = parse_bearer(authorization)
        if token is None:
            guestbook.note(NO_TOKEN)
            raise _unauthorized()
        try:
            claims = jwt.decode(token, MCP_AUTH_SECRET, algorithms=["HS256"], audience="service-search-mcp")  # noqa: E501  # fmt: skip
        except jwt.InvalidTokenError:
            guestbook.note(REFUSED)
            raise _unauthorized() from None
        subject = str(claims["sub"])
        guestbook.note(subject)
        return subject

    return caller


def _unauthorized() -> HTTPException:
    return HTTPException(401, "invalid token", headers={"WWW-Authenticate": "Bearer"})
