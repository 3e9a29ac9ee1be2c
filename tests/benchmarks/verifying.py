"""A token checked by a server: the first time, and each time after that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import jwt

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors._bearer import format_bearer
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.tokens import mint
from tests.support import AUDIENCE, SECRET

from ._harness import Bench, Row, Run, Table, calls, peer
from ._setup import key_files

ISSUER = "manor-internal"
SETTINGS = Settings(secret=SECRET)


def tables(bench: Bench) -> Iterator[Table]:
    """Compare with PyJWT configured to check as much, and with a dictionary look-up."""
    token = new_token()
    value = format_bearer(token)  # each call has a new str object, as on a server
    start = len(value) - len(token)
    remembered = TokenVerifier(SETTINGS)
    held = {token: remembered.verify(token)}
    yield bench.compare(
        "A token verified",
        [
            Row("PyJWT, decode", calls(lambda: pyjwt(value[start:])), "floor"),
            Row("TokenVerifier, a token not seen before", _fresh(), "ours"),
            Row(
                "TokenVerifier, a remembered token",
                calls(lambda: remembered.verify(value[start:])),
                "ours",
                limit=1.2,
            ),
            Row("a dictionary look-up", calls(lambda: held[value[start:]]), "floor"),
            peer("joserfc", lambda: _joserfc(token)),
            peer("authlib", lambda: _authlib(token)),
            peer("FastMCP, JWTVerifier", lambda: _fastmcp(token)),
        ],
        unit="us",
    )
    with key_files() as settings:
        yield _by_algorithm(bench, {"HS256": SETTINGS, **settings})


def _by_algorithm(bench: Bench, settings: dict[str, Settings]) -> Table:
    """Compare the algorithms; a remembered token costs a digest, of a longer text with keys."""
    remembered = {name: TokenVerifier(each) for name, each in settings.items()}
    tokens = {name: new_token(settings=each) for name, each in settings.items()}
    for name, verifier in remembered.items():
        verifier.verify(tokens[name])
    kept = {name: _again(remembered[name], tokens[name]) for name in settings}
    return bench.compare(
        "A token verified, by its algorithm",
        [
            *(_remembered_row(name, run) for name, run in kept.items()),
            *(_fresh_row(name, settings[name]) for name in settings),
        ],
        unit="us",
    )


def _remembered_row(name: str, run: Run) -> Row:
    return Row(f"{name}, remembered", run, "ours", at_most=None if name == "HS256" else 1.5)


def _fresh_row(name: str, settings: Settings) -> Row:
    title = "{}, not seen before"
    return Row(title.format(name), _fresh(settings), "ours", against=title.format("HS256"))


def _again(verifier: TokenVerifier, token: str) -> Run:
    value = format_bearer(token)  # each call has a new str object, as on a server
    start = len(value) - len(token)
    return calls(lambda: verifier.verify(value[start:]))


def new_token(subject: str = "service-application", settings: Settings = SETTINGS) -> str:
    """Return a token that the verifiers accept."""
    settings = replace(settings, subject=subject)
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


def _fresh(settings: Settings = SETTINGS) -> Run:
    """Verify tokens that the verifier has not seen; making tokens and verifiers is not timed."""
    signer = KeySource().signing_key(settings)
    tokens = [
        mint(replace(settings, subject=f"service-{number}"), signer, time.time()).value
        for number in range(500)
    ]

    def run(count: int) -> float:
        seconds = 0.0
        for done in range(0, count, len(tokens)):
            verifier = TokenVerifier(settings)
            started = time.perf_counter()
            for token in tokens[: count - done]:
                verifier.verify(token)
            seconds += time.perf_counter() - started
        return seconds

    return run


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
