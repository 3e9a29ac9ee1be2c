"""Public keys: which algorithm follows from one, its JWK, and its thumbprint."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors._subjects import Subjects

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KINDS: Final = "P-256 (ES256), RSA of 2048 bits or more (RS256) or Ed25519 (EdDSA)"
"""The keys that `algorithm_of` knows, in a message."""
MIN_RSA_BITS: Final = 2048
MAX_RSA_EXPONENT: Final = 2**32
"""Nearly every key has 65537."""

_MEMBERS: Final = ("crv", "e", "kty", "n", "x", "y")
"""What a thumbprint is made of (RFC 7638, section 3.2), for every kind of key."""

_P: Final = 2**255 - 19
_Y8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_LOW_ORDER_Y: Final = frozenset(y % _P for y in (0, 1, -1, _Y8, -_Y8))
"""The `y` of the eight points of Ed25519 for which anybody can make signatures."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of a JWKS file."""

    key: Any = field(repr=False)
    """A public key of `cryptography`."""
    algorithm: str
    """``ES256``, ``RS256`` or ``EdDSA``."""
    key_id: str
    subjects: Subjects | None = None
    """The subjects that it speaks for; None: any."""


def algorithm_of(key: object) -> str | None:
    """Return the one algorithm that the public key `key` is used with; None if there is none."""
    with needs("cryptography", "a public or private key", extra="crypto"):
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ES256" if isinstance(key.curve, ec.SECP256R1) else None
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256" if _is_strong(key) else None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None if _has_low_order(key.public_bytes_raw()) else "EdDSA"
    return None


def _is_strong(key: RSAPublicKey) -> bool:
    numbers = key.public_numbers()
    # Everybody can divide an even modulus, and a long exponent makes each refusal slow.
    is_sound = numbers.n % 2 == 1 and numbers.e < MAX_RSA_EXPONENT
    return key.key_size >= MIN_RSA_BITS and is_sound


def _has_low_order(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & (2**255 - 1)  # without the sign of x
    return y % _P in _LOW_ORDER_Y


def public_jwk(key: object) -> dict[str, str]:
    """Return a public key that `algorithm_of` knows as a JWK with `kid`, `alg` and `use`."""
    algorithm = algorithm_of(key)
    assert algorithm is not None
    jwk = _members(key, algorithm)
    return {"kty": jwk.pop("kty"), "kid": thumbprint(key), "alg": algorithm, "use": "sig", **jwk}


def thumbprint(key: object) -> str:
    """Return the thumbprint of a public key that `algorithm_of` knows (RFC 7638), by SHA-256."""
    members = _members(key, str(algorithm_of(key)))
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _members(key: object, algorithm: str) -> dict[str, str]:
    from jwt.algorithms import get_default_algorithms  # PyJWT: not before there is a key

    jwk = get_default_algorithms()[algorithm].to_jwk(key, as_dict=True)
    return {name: jwk[name] for name in _MEMBERS if name in jwk}
