"""ASGI: a middleware around any application, FastAPI, Starlette, Quart or none."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from ._caller import caller_var, current_caller
from ._http_admission import admit_http
from ._scopes import required
from .reasons import POLICY_VIOLATION, Reason, challenge, http_status, message
from .verifier import TokenVerifier, start_serving, verification_of

__all__ = ["TokenAuthMiddleware", "current_caller"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class TokenAuthMiddleware:
    """Lets in requests and WebSockets with a valid token: ``TokenAuthMiddleware(app)``.

    All others are answered with 401, with 403 if a required scope is missing, or a WebSocket is
    closed before its handshake, and no code of the application runs. In observe mode
    (``MCP_AUTH_ENFORCEMENT``) they are let through, counted and logged. A handler reads its
    caller with `current_caller`.

    It stands outside of the application's routes, so that mounted applications, static files and
    404 pages are covered too. What passes without a token: ``lifespan``; a CORS preflight, which
    cannot carry one (Fetch standard, section 3.3.5) and goes to the application; `exempt` paths.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: TokenVerifier | None = None,
        exempt: Iterable[str] = (),
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the application and the verifier of the tokens.

        Args:
            app: The application.
            verifier: None is the process-wide one, which reads the environment. If that has no
                usable secret, a warning is logged now.
            exempt: Paths that need no token, below the path that the application is mounted at:
                ``/health`` is that path alone, ``/public/*`` is everything below ``/public/``,
                with every method, for requests and WebSockets. No caller is known there, whatever
                token is sent. A path with ``//``, ``.`` or ``..`` in it is never exempt, because
                an application may resolve it to another one.
            required_scopes: What the tokens must have in `scope`.

        Raises:
            ValueError: An exempt path has another form.
            SettingsError: A required scope is malformed.
        """
        self._app = app
        self._verifier = verifier
        self._exempt = _checked(exempt)
        self._scopes = required(required_scopes)
        start_serving(verifier)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        caller = None
        if not _is_preflight(scope) and not self._is_exempt(scope):
            values = header_values(scope, b"authorization")
            result = await admit_http(self._verifier, values, scope, self._scopes)
            del values  # a traceback that prints locals prints no token
            if isinstance(result, Reason):
                scopes = verification_of(self._verifier).all_scopes(self._scopes)
                await _refuse(scope["type"], result, scopes, send)
                return
            caller = result
        before = caller_var.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            caller_var.reset(before)

    def _is_exempt(self, scope: Scope) -> bool:
        path = _path_below_mount(scope)
        if not self._exempt or not _is_plain(path):
            return False
        return any(
            path.startswith(one[:-1]) if one.endswith("*") else path == one for one in self._exempt
        )


def _checked(exempt: Iterable[str]) -> tuple[str, ...]:
    patterns = (exempt,) if isinstance(exempt, str) else tuple(exempt)
    for pattern in patterns:
        path = pattern.removesuffix("*")
        is_path = _is_plain(path) and "*" not in path
        if isinstance(exempt, str) or not is_path or (path != pattern and path in ("", "/")):
            raise ValueError(
                f"exempt={exempt!r}: give a list of paths such as '/health',"
                " or '/public/*' for all paths below '/public/'"
            )
        if path != pattern and not path.endswith("/"):
            raise ValueError(f"exempt={pattern!r}: '*' stands after '/' only")
    return patterns


def _is_plain(path: str) -> bool:
    """Return whether no server or application resolves `path` to another one."""
    segments = path.split("/")
    inner = segments[1:-1] if segments[-1] == "" else segments[1:]
    return path.startswith("/") and "\\" not in path and not {"", ".", ".."} & set(inner)


def _path_below_mount(scope: Scope) -> str:
    """Return the path as the application's routes see it: without that of its mount."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def _is_preflight(scope: Scope) -> bool:
    return (
        scope.get("method") == "OPTIONS"
        and bool(header_values(scope, b"origin"))
        and bool(header_values(scope, b"access-control-request-method"))
    )


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return all values of the header `name`, which is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _refuse(kind: str, reason: Reason, scopes: Iterable[str], send: Send) -> None:
    if kind == "websocket":
        close = {"code": POLICY_VIOLATION, "reason": message(reason)}
        await send({"type": "websocket.close", **close})
        return
    body = json.dumps({"detail": message(reason)}, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", challenge(reason, scopes).encode()),
    ]
    status = http_status(reason)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
