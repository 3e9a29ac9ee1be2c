"""Starlette and other ASGI applications: an authentication backend and its 401."""

from __future__ import annotations

from collections.abc import Iterable

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

from ._http_admission import admit_http
from ._scopes import required as required_by
from .reasons import REFUSAL_MESSAGE, Reason, challenge, http_status, message
from .verifier import TokenVerifier, VerifiedToken, start_serving, verification_of

__all__ = ["MCPUser", "TokenAuthBackend", "on_auth_error"]


class MCPUser(BaseUser):
    """The calling service, as ``request.user``."""

    def __init__(self, token: VerifiedToken) -> None:
        self.token = token

    @property
    def is_authenticated(self) -> bool:
        """True: an unauthenticated caller is not an `MCPUser`."""
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
    def __init__(self, reason: Reason, scopes: Iterable[str]) -> None:
        super().__init__(message(reason))
        self.status = http_status(reason)
        self.challenge = challenge(reason, scopes)


class TokenAuthBackend(AuthenticationBackend):
    """Identifies the caller; refuses a call without a valid token.

    In observe mode (``MCP_AUTH_ENFORCEMENT``) such a call is let through, counted and logged, as
    Starlette's `UnauthenticatedUser`.

    Install it together with `on_auth_error`, without which Starlette answers 400:
    ``AuthenticationMiddleware(app, backend=TokenAuthBackend(), on_error=on_auth_error)``.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        required: bool = True,
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment. If that has no
                usable secret, a warning is logged now.
            required: False lets in a call without a bearer token as Starlette's
                `UnauthenticatedUser`, for applications with public pages; protect the other pages
                with ``@requires("authenticated")``. The same holds for a call with another scheme,
                such as ``Basic``, and for a token of another issuer if the verifier has
                ``other_issuers=True``: they are left to other backends. A bad token is refused.
            required_scopes: What the tokens must have in `scope`. To require one of single pages,
                use ``@requires("search:write")``.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self._scopes = required_by(required_scopes)
        self._verifier = verifier
        self._required = required
        start_serving(verifier)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return the caller, with the scope ``authenticated`` and those of the token.

        None: nobody was verified, and the call is let in all the same.

        Raises:
            AuthenticationError: The call is refused.
        """
        values = conn.headers.getlist("authorization")
        if not self._required and not any(map(_names_bearer, values)):
            return None
        result = await admit_http(self._verifier, values, conn.scope, self._scopes)
        del values  # a traceback that prints locals prints no token
        if result is None or (result is Reason.OTHER_ISSUER and not self._required):
            return None
        if isinstance(result, Reason):
            scopes = verification_of(self._verifier).all_scopes(self._scopes)
            raise _RefusedError(result, scopes)
        return AuthCredentials(["authenticated", *result.scopes]), MCPUser(result)


def _names_bearer(value: str) -> bool:
    return [word.lower() for word in value.split(maxsplit=1)[:1]] == ["bearer"]


def on_auth_error(conn: HTTPConnection, exc: AuthenticationError) -> Response:  # noqa: ARG001 - Starlette's signature
    """Answer 401 with ``WWW-Authenticate: Bearer``; 403 if a scope is missing."""
    status, detail, header = 401, REFUSAL_MESSAGE, "Bearer"
    if isinstance(exc, _RefusedError):
        status, detail, header = exc.status, str(exc), exc.challenge
    return JSONResponse(
        {"detail": detail}, status_code=status, headers={"WWW-Authenticate": header}
    )
