"""ASGI: an application that a proxy asks whether a call may pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ._observation import Peer, http_peer
from ._scopes import required
from .asgi_middleware import Receive, Scope, Send, header_values
from .reasons import POLICY_VIOLATION, Reason, Unverified, challenge, http_status
from .verifier import TokenVerifier, VerifiedToken, start_serving, verification_of

__all__ = ["ForwardAuth", "app"]

CALLER: Final = b"x-mcp-caller"
SCOPE: Final = b"x-mcp-scope"

Headers = list[tuple[bytes, bytes]]


class ForwardAuth:
    """Verifies the ``Authorization`` that a proxy forwards; the answer has no body.

    200 with the token's subject in ``X-MCP-Caller`` and its scopes in ``X-MCP-Scope``; or 401, or
    403 if a required scope is missing, with ``WWW-Authenticate``. In observe mode
    (``MCP_AUTH_ENFORCEMENT``) an unverified call gets 200 with both headers empty. Both headers
    are always there: a proxy that copies them overwrites what the caller sent.

    The same on every path and with every method, because some proxies forward those of the call:
    no path is exempt. Health has a port of its own. A WebSocket handshake is refused.

    A subject or scope is visible ASCII, with spaces inside at most: what every proxy passes on in
    a header as it is. A token with another one is refused as `Reason.CLAIM_INVALID`.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        required_scopes: Iterable[str] = (),
        health_port: int | None = None,
    ) -> None:
        """Take the verifier of the tokens. Nothing is read or logged before the server starts.

        Args:
            verifier: None is the process-wide one, which reads the environment.
            required_scopes: What the tokens must have in `scope`.
            health_port: A second port of the server, which proxies do not ask. ``/healthz`` is
                200 there, ``/readyz`` is 200, or 503 while there is no usable key; nothing is
                verified. None: no port answers these.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self._verifier = verifier
        self._scopes = required(required_scopes)
        self._health_port = health_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve the lifespan."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif self._is_for_health(scope):
            await _answer(self._health(scope["path"]), [], send)
        else:
            await self._verify(scope, send)

    async def _verify(self, scope: Scope, send: Send) -> None:
        values = header_values(scope, b"authorization")
        verification = verification_of(self._verifier)
        result = await verification.admit_async(values, self._scopes, _fits_headers)
        del values  # a traceback that prints locals prints no token
        if isinstance(result, Reason):
            wanted = challenge(result, verification.all_scopes(self._scopes))
            headers = [(b"www-authenticate", wanted.encode())]
            await _answer(http_status(result), headers, send)
            return
        if isinstance(result, Unverified):
            verification.observe(result, lambda: _forwarded_peer(scope))
            await _answer(200, [(CALLER, b""), (SCOPE, b"")], send)
            return
        scopes = " ".join(result.scopes)
        await _answer(200, [(CALLER, result.subject.encode()), (SCOPE, scopes.encode())], send)

    def _is_for_health(self, scope: Scope) -> bool:
        # By the port of the connection alone: everything in a request may come from the caller.
        _, port = scope.get("server") or (None, None)
        return port is not None and port == self._health_port

    def _health(self, path: str) -> int:
        if path == "/healthz":
            return 200
        if path == "/readyz":
            return 200 if verification_of(self._verifier).is_ready() else 503
        return 404

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        start_serving(self._verifier)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _fits_headers(caller: VerifiedToken) -> bool:
    texts = (caller.subject, *caller.scopes)
    return all(text.isascii() and text.isprintable() and text == text.strip(" ") for text in texts)


def _forwarded_peer(scope: Scope) -> Peer:
    """Return the peer that the nearest proxy names, if one does. Not to be trusted."""
    peer = http_peer(scope.get("client"), scope["headers"])
    chain = header_values(scope, b"x-forwarded-for") or header_values(scope, b"x-real-ip")
    nearest = ",".join(chain).rpartition(",")[2].strip()
    return replace(peer, address=nearest or peer.address)


async def _answer(status: int, headers: Headers, send: Send) -> None:
    headers = [*headers, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


app: Final = ForwardAuth()
"""Verifies by the environment: ``uvicorn manor_mcp_interceptors.server.forward_auth:app``."""
