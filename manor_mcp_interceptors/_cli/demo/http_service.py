"""An HTTP service that checks its callers: by a secret as services do today, or by public keys."""

# No `from __future__ import annotations`: FastAPI resolves annotations among the module's names.
from collections.abc import Callable

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException

from manor_mcp_interceptors._bearer import parse_bearer
from manor_mcp_interceptors.errors import TokenRejectedError
from manor_mcp_interceptors.server.verifier import TokenVerifier
from manor_mcp_interceptors.settings import Settings

from .guestbook import NO_TOKEN, REFUSED, Guestbook


def http_service(settings: Settings, guestbook: Guestbook) -> FastAPI:
    """Return a service that answers each request with its caller's name."""
    by_keys = settings.secret is None
    check = _check_by_keys(settings) if by_keys else _check_by_secret(settings.secret or "")
    caller = Depends(_caller(check, guestbook))
    service = FastAPI(openapi_url=None)

    @service.get("/whoami")
    def whoami(caller: str = caller) -> dict[str, str]:
        return {"caller": caller}

    @service.post("/search")
    def search(query: dict[str, str], caller: str = caller) -> dict[str, str]:
        return {"caller": caller, "query": query["query"]}

    return service


def _check_by_secret(secret: str) -> Callable[[str], str]:
    MCP_AUTH_SECRET = secret  # noqa: N806 - the check below is copied from services in use

    def subject_of(token: str) -> str:
        claims = jwt.decode(token, MCP_AUTH_SECRET, algorithms=["HS256"], audience="service-search-mcp")  # noqa: E501  # fmt: skip
        return str(claims["sub"])

    return subject_of


def _check_by_keys(settings: Settings) -> Callable[[str], str]:
    verifier = TokenVerifier(settings)
    return lambda token: verifier.verify(token).subject


def _caller(check: Callable[[str], str], guestbook: Guestbook) -> Callable[..., str]:
    def caller(authorization: str = Header("")) -> str:
        token = parse_bearer(authorization)
        if token is None:
            guestbook.note(NO_TOKEN)
            raise _unauthorized()
        try:
            subject = check(token)
        except (jwt.InvalidTokenError, TokenRejectedError):
            guestbook.note(REFUSED)
            raise _unauthorized() from None
        guestbook.note(subject)
        return subject

    return caller


def _unauthorized() -> HTTPException:
    return HTTPException(401, "invalid token", headers={"WWW-Authenticate": "Bearer"})
