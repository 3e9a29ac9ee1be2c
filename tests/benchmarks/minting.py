"""A new token: once per hour and process, so a matter of microseconds only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import jwt

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors._keys.keys import KeySource, SigningKey
from manor_mcp_interceptors._keys.tokens import mint
from tests.support import SECRET, StaticGate

from ._harness import Bench, Row, Run, Table, calls, peer
from ._setup import key_files

CLAIMS = {
    "iss": "manor-internal",
    "aud": "service-search-mcp",
    "sub": "service-application",
    "iat": int(time.time()),
    "exp": int(time.time()) + 3600,
}


def tables(bench: Bench) -> Iterator[Table]:
    """Compare signing with PyJWT's own, and show what a whole new decision costs."""
    settings = Settings(secret=SECRET)
    key = KeySource().signing_key(settings)
    yield bench.compare(
        "A new token",
        [
            Row("PyJWT, encode", calls(lambda: jwt.encode(CLAIMS, SECRET, "HS256")), "floor"),
            Row("mint()", _mint(settings, key), "ours"),
            Row("provider: decide again, mint", _decide_and_mint(settings), "ours"),
            Row("provider: decide again, token kept", _decide(settings), "ours"),
            peer("joserfc", _joserfc),
            peer("authlib", _authlib),
        ],
        unit="us",
    )
    with key_files() as by_algorithm:
        yield _by_algorithm(bench, {"HS256": settings, **by_algorithm})


def _by_algorithm(bench: Bench, settings: dict[str, Settings]) -> Table:
    """Compare the algorithms; a recheck reads the key's file, and loads no key."""
    keys = {name: KeySource().signing_key(each) for name, each in settings.items()}
    return bench.compare(
        "A new token, by its algorithm",
        [
            *(Row(f"mint(), {name}", _mint(settings[name], keys[name]), "ours") for name in keys),
            *(
                Row(f"provider: token kept, {name}", _decide(settings[name]), "ours")
                for name in keys
            ),
        ],
        unit="us",
    )


def _mint(settings: Settings, key: SigningKey) -> Run:
    return calls(lambda: mint(settings, key, time.time()))


def _decide_and_mint(settings: Settings) -> Run:
    gate = StaticGate()
    return calls(lambda: MCPTokenProvider(settings, gate=gate).token())


def _decide(settings: Settings) -> Run:
    always = replace(settings, recheck_seconds=0)
    return calls(MCPTokenProvider(always, gate=StaticGate()).token)


def _joserfc() -> Run:
    joserfc_jwt = import_module("joserfc.jwt")
    key = import_module("joserfc.jwk").OctKey.import_key(SECRET)
    return calls(lambda: joserfc_jwt.encode({"alg": "HS256"}, CLAIMS, key))


def _authlib() -> Run:
    authlib_jwt = import_module("authlib.jose").JsonWebToken(["HS256"])
    return calls(lambda: authlib_jwt.encode({"alg": "HS256"}, CLAIMS, SECRET))
