"""A token checked by a server: the first time, and each time after that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import cycle

import jwt

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors._bearer import format_bearer
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.tokens import mint
from tests.support import AUDIENCE, SECRET

from ._harness import Bench, Row, Run, Table, calls, peer

ISSUER = "manor-internal"
SETTINGS = Settings(secret=SECRET)


def tables(bench: Bench) -> Iterator[Table]:
    """Compare with PyJWT told to check as much, and with a look into a dictionary."""
    token = new_token()
    value = format_bearer(token)  # a server sees a new text at each call, and so do these rows
    start = len(value) - len(token)
    remembered = TokenVerifier(SETTINGS)
    held = {token: remembered.verify(token)}
    yield bench.compare(
        "A token verified",
        [
            Row("PyJWT, decode", calls(lambda: pyjwt(value[start:])), "floor"),
            Row("TokenVerifier, a token not seen before", _cold(), "ours"),
            Row(
                "TokenVerifier, a remembered token",
                calls(lambda: remembered.verify(value[start:])),
                "ours",
                limit=0.6,
            ),
            Row("a look into a dictionary", calls(lambda: held[value[start:]]), "floor"),
            peer("joserfc", lambda: _joserfc(token)),
            peer("authlib", lambda: _authlib(token)),
            peer("FastMCP, JWTVerifier", lambda: _fastmcp(token)),
        ],
        unit="us",
    )


def new_token(subject: str = "service-application") -> str:
    """Return a token that the verifiers accept."""
    settings = Settings(secret=SECRET, subject=subject)
    return mint(settings, KeySource().signing_key(settings), time.time()).value


def pyjwt(token: str) -> object:
    """Verify as strictly as PyJWT can."""
    return jwt.decode(
        token,
        SECRET,
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": ["iss", "aud", "sub", "iat", "exp"]},
    )


def _cold() -> Run:
    """Verify with an empty memory each time."""
    from manor_mcp_interceptors.server._memory import Memory

    verifier = TokenVerifier(SETTINGS)
    tokens = cycle([new_token(f"service-{number}") for number in range(50)])

    def verify() -> None:
        object.__setattr__(verifier._law, "memory", Memory())
        verifier._law.at_hand.clear()
        verifier.verify(next(tokens))

    return calls(verify)


def _joserfc(token: str) -> Run:
    joserfc_jwt = import_module("joserfc.jwt")
    key = import_module("joserfc.jwk").OctKey.import_key(SECRET)
    registry = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        iat={"essential": True},
        exp={"essential": True},
    )

    def verify() -> None:
        registry.validate(joserfc_jwt.decode(token, key, algorithms=["HS256"]).claims)

    return calls(verify)


def _authlib(token: str) -> Run:
    authlib_jwt = import_module("authlib.jose").JsonWebToken(["HS256"])
    options = {
        "iss": {"essential": True, "value": ISSUER},
        "aud": {"essential": True, "value": AUDIENCE},
        "sub": {"essential": True},
        "iat": {"essential": True},
        "exp": {"essential": True},
    }
    return calls(lambda: authlib_jwt.decode(token, SECRET, claims_options=options).validate())


def _fastmcp(token: str) -> Run:
    providers = import_module("fastmcp.server.auth.providers.jwt")
    verifier = providers.JWTVerifier(
        public_key=SECRET, issuer=ISSUER, audience=AUDIENCE, algorithm="HS256"
    )

    async def verify(count: int) -> None:
        for _ in range(count):
            if await verifier.verify_token(token) is None:
                raise RuntimeError("FastMCP refused the token")

    return lambda count: asyncio.run(verify(count))
