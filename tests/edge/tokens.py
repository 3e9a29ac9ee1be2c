"""Tokens for the table, good and forged, signed with keys made for one run."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from manor_mcp_interceptors._keys.public_key import public_jwk
from tests.server.forging import b64, claims, forge
from tests.support import SECRET

PREVIOUS_SECRET: Final = secrets.token_urlsafe(48)
HASHES: Final[dict[str, Callable[..., Any]]] = {
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


def raw(payload: dict[str, Any] | str | bytes, header: dict[str, Any] | str | None = None) -> str:
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


def changed(good: str) -> str:
    """Return `good` with another payload than was signed."""
    header, _, signature = good.split(".")
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


@cache
def private_key(name: str) -> Any:
    """Return the key of that name; "rs" and "ed" are RSA and Ed25519, all others P-256."""
    if name == "rs":
        return rsa.generate_private_key(65_537, 2048)
    return ed25519.Ed25519PrivateKey.generate() if name == "ed" else ec_key()


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


BOUND: Final = ["service-b", "team:search:*"]
"""The subjects of the key "bound"."""


def write_jwks(path: Path) -> Path:
    """Write the public keys that verifiers trust: "es", "bound", "rs", "ed"."""
    keys = [public_jwk(private_key(name).public_key()) for name in ("es", "bound", "rs", "ed")]
    for name, jwk in zip(("es", "bound", "rs", "ed"), keys, strict=True):
        jwk["kid"] = name
    members = [jwk | ({"sub": BOUND} if jwk["kid"] == "bound" else {}) for jwk in keys]
    path.write_text(json.dumps({"keys": members}))
    return path


def by_key(
    name: str, *, kid: str | None = "", alg: str = "", hashed_by: Any = None, **changes: Any
) -> str:
    """Return a token that the private key `name` has signed.

    Args:
        name: As `private_key` takes it.
        kid: Another `kid`; None: no `kid`.
        alg: Another `alg` in the header.
        hashed_by: Another hash than SHA-256.
        **changes: The claims that differ from good ones.
    """
    key = private_key(name)
    own = {"rs": "RS256", "ed": "EdDSA"}.get(name, "ES256")
    header: dict[str, Any] = {"alg": alg or own, "typ": "JWT"}
    if kid is not None:
        header["kid"] = kid or name
    parts = [header, claims(int(time.time()), **changes)]
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{b64(_signature(key, signed.encode(), hashed_by or hashes.SHA256()))}"


def _signature(key: Any, signed: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), algorithm)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(algorithm)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed_with_a_public_key(kid: str) -> str:
    """Return an HS256 token whose secret is the PEM of a public key, which everybody has."""
    pem = (
        private_key(kid)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return token(secret=pem.decode(), header={"alg": "HS256", "kid": kid})
