"""Tokens for the table, good and forged, signed with keys made for one run."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from tests.server.forging import b64, claims, forge
from tests.support import SECRET

PREVIOUS_SECRET = secrets.token_urlsafe(48)
HASHES: dict[str, Callable[..., Any]] = {
    "HS256": hashlib.sha256,
    "HS384": hashlib.sha384,
    "HS512": hashlib.sha512,
}


def token(*, secret: str = SECRET, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token made now; a change to `...` leaves the claim out."""
    return forge(claims(int(time.time()), **changes), secret=secret, header=header)


def ahead(seconds: float) -> float:
    """Return a Unix time in whole seconds, so many from now."""
    return int(time.time()) + seconds


def raw(payload: str | bytes, header: dict[str, Any] | str | None = None) -> str:
    """Return a token with any payload, signed with the current secret."""
    return forge(payload, header=header)


def hashed(algorithm: str, secret: str = SECRET) -> str:
    """Return a token that is signed as its header says."""
    parts = [{"alg": algorithm, "typ": "JWT"}, claims(int(time.time()))]
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    digest = hmac.new(secret.encode(), signed.encode(), HASHES[algorithm]).digest()
    return f"{signed}.{b64(digest)}"


def unsigned() -> str:
    return token(header={"alg": "none"}).rpartition(".")[0] + "."


def changed() -> str:
    """Return a token whose payload is another one than was signed."""
    header, _, signature = token().split(".")
    return f"{header}.{token(sub='service-b').split('.')[1]}.{signature}"


def other_spelling() -> str:
    """Return a token whose signature some decoders take for the good one: unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good = token()
    return good[:-1] + alphabet[alphabet.index(good[-1]) + 1]


def twice(name: str, first: Any, second: Any) -> str:
    """Return a token in which a claim occurs twice."""
    others = json.dumps(claims(int(time.time()), **{name: ...}))
    members = ", ".join(f'"{name}": {json.dumps(value)}' for value in (first, second))
    return raw(f"{others[:-1]}, {members}}}")
