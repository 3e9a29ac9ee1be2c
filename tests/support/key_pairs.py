"""Key pairs, made when a test needs one, and their public halves as JWKs made by hand."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

ALGORITHMS: Final = ("ES256", "RS256", "EdDSA")

MAKERS: Final[dict[str, Callable[[], Any]]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA of 1024 bits": lambda: rsa.generate_private_key(65537, 1024),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
}


@dataclass(frozen=True)
class KeyPair:
    """A private key and its public half."""

    private: Any
    members: dict[str, str]
    """What a thumbprint is made of (RFC 7638, section 3.2)."""

    @property
    def kid(self) -> str:
        """Return the thumbprint."""
        text = json.dumps(self.members, sort_keys=True, separators=(",", ":"))
        return _b64(hashlib.sha256(text.encode()).digest())

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key with changes; a change to `...` leaves the member out."""
        jwk = {**self.members, "kid": self.kid, **changes}
        return {name: value for name, value in jwk.items() if value is not ...}

    def private_jwk(self) -> dict[str, Any]:
        """Return the JWK with what must never leave the signer."""
        numbers = getattr(self.private, "private_numbers", None)
        if numbers is None:
            return self.jwk(d=_b64(self.private.private_bytes_raw()))
        found = numbers()
        return self.jwk(d=_uint(getattr(found, "d", 0) or found.private_value))

    def pem(self) -> str:
        """Return the private key in PKCS #8."""
        form = serialization.PrivateFormat.PKCS8
        none = serialization.NoEncryption()
        pem: bytes = self.private.private_bytes(serialization.Encoding.PEM, form, none)
        return pem.decode()

    def public(self, encoding: serialization.Encoding) -> bytes:
        """Return the public key as a SubjectPublicKeyInfo."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        found: bytes = self.private.public_key().public_bytes(encoding, form)
        return found

    def sign(self, data: bytes) -> bytes:
        """Return a signature in the form of a JWS (RFC 7518, section 3.4; RFC 8037)."""
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.key_size + 7) // 8
            pair = decode_dss_signature(self.private.sign(data, ec.ECDSA(SHA256())))
            return b"".join(number.to_bytes(size, "big") for number in pair)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), SHA256())
        signature: bytes = self.private.sign(data)
        return signature


@lru_cache
def key_pair(kind: str, number: int = 1) -> KeyPair:
    """Return the pair of this kind and number: one a process, since RSA takes its time."""
    private = MAKERS[kind]()
    return KeyPair(private, _members(private.public_key()))


def write_jwks(path: Path, *keys: object) -> Path:
    """Write a JWK set; each key is a JWK, or a pair."""
    found = [key.jwk() if isinstance(key, KeyPair) else key for key in keys]
    path.write_text(json.dumps({"keys": found}))
    return path


def _members(public: Any) -> dict[str, str]:
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _uint(numbers.n), "e": _uint(numbers.e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "P-256", "secp384r1": "P-384"}
        size = (public.key_size + 7) // 8
        point = public.public_numbers()
        crv = names.get(public.curve.name, public.curve.name)
        return {"kty": "EC", "crv": crv, "x": _uint(point.x, size), "y": _uint(point.y, size)}
    crv = type(public).__name__.removesuffix("PublicKey").lstrip("_")
    return {"kty": "OKP", "crv": crv, "x": _b64(public.public_bytes_raw())}


def _uint(number: int, size: int = 0) -> str:
    return _b64(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
