"""Starlette, and whatever else speaks ASGI: an authentication backend and its 401."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("starlette", __name__):
    from starlette.authentication import (
        AuthCredentials,
        AuthenticationBackend,
        AuthenticationError,
        BaseUser,
    )
    from starlette.requests import HTTPConnection
    from starlette.responses import JSONResponse, Response

from ._door import PHRASE, challenge, judge_of
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken

__all__ = ["MCPTokenBackend", "MCPUser", "on_error"]


class MCPUser(BaseUser):
    """The service that calls, as ``request.user``."""

    def __init__(self, token: VerifiedToken) -> None:
        self.token = token

    @property
    def is_authenticated(self) -> bool:
        """True: who is not authenticated is no `MCPUser`."""
        return True

    @property
    def display_name(self) -> str:
        """The token's subject."""
        return self.token.subject

    @property
    def identity(self) -> str:
        """The token's subject."""
        return self.token.subject


class _RefusedError(AuthenticationError):
    def __init__(self, reason: Reason) -> None:
        super().__init__(PHRASE)
        self.challenge = challenge(reason)


class MCPTokenBackend(AuthenticationBackend):
    """Tells whose call this is; refuses a call without a valid token.

    Install it together with `on_error`, without which Starlette answers 400:
    ``AuthenticationMiddleware(app, backend=MCPTokenBackend(), on_error=on_error)``.
    """

    def __init__(self, verifier: TokenVerifier | None = None, *, required: bool = True) -> None:
        """Take what verifies the tokens.

        Args:
            verifier: None is one from the environment, made at need.
            required: False lets a call without a bearer token through as Starlette's
                `UnauthenticatedUser`, for applications with public pages, whose other pages say
                ``@requires("authenticated")``. So it does one with another scheme, such as
                ``Basic``, which is another backend's. A bad token is refused all the same.
        """
        self._verifier = verifier
        self._required = required

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return the caller, with the scope ``authenticated``.

        Raises:
            AuthenticationError: The call is refused.
        """
        values = conn.headers.getlist("authorization")
        if not self._required and not any(map(_names_bearer, values)):
            return None
        verdict = judge_of(self._verifier).judge_authorization(values)
        del values  # a traceback that prints locals prints no token
        if isinstance(verdict, Reason):
            raise _RefusedError(verdict)
        return AuthCredentials(["authenticated"]), MCPUser(verdict)


def _names_bearer(value: str) -> bool:
    return [word.lower() for word in value.split(maxsplit=1)[:1]] == ["bearer"]


def on_error(conn: HTTPConnection, exc: AuthenticationError) -> Response:  # noqa: ARG001 - Starlette's signature
    """Answer 401 with ``WWW-Authenticate: Bearer``."""
    header = exc.challenge if isinstance(exc, _RefusedError) else "Bearer"
    return JSONResponse({"detail": PHRASE}, status_code=401, headers={"WWW-Authenticate": header})
