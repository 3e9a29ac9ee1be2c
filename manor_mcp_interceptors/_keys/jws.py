"""PyJWT, set up for the algorithms of this library. Importing this imports PyJWT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from jwt import PyJWS
from jwt.algorithms import HMACAlgorithm, get_default_algorithms
from jwt.exceptions import DecodeError, InvalidKeyError
from jwt.utils import base64url_encode

from .shared_secret import SharedSecret

if TYPE_CHECKING:
    from .keys import SigningKey
    from .verification_keys import VerificationKey

_ALGORITHMS: Final = ("HS256", "ES256", "RS256", "EdDSA")
"""All that this library signs and verifies with. Each key is used with one of them alone."""


class _QuietHMAC(HMACAlgorithm):
    """HS256 without PyJWT's warning of a short secret at each call: `form_warnings` has one."""

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - PyJWT's signature
        return None


def _new_jws() -> PyJWS:
    """Return a PyJWS that knows `_ALGORITHMS`; without `cryptography` it knows HS256 alone."""
    jws = PyJWS(algorithms=[name for name in _ALGORITHMS if name in get_default_algorithms()])
    jws.unregister_algorithm("HS256")
    jws.register_algorithm("HS256", _QuietHMAC(HMACAlgorithm.SHA256))
    return jws


_jws: Final = _new_jws()


def sign(claims: dict[str, Any], key: SigningKey) -> str:
    """Return the compact JWS of `claims`."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    headers = {"kid": key.key_id} if key.key_id is not None else None
    return _jws.encode(payload, _material(key), key.algorithm, headers)


def verify(token: str, key: VerificationKey) -> bytes:
    """Return the payload of `token` if `key` has signed it, with the algorithm of the key.

    Raises:
        jwt.InvalidSignatureError: The key has not signed it.
        jwt.PyJWTError, ValueError: It is malformed. That includes a signature in another spelling
            than the one of base64url: PyJWT 2.13 ignores the unused bits of its last character.
    """
    decoded = _jws.decode_complete(token, _material(key), [key.algorithm])
    if base64url_encode(decoded["signature"]).decode() != token.rpartition(".")[2]:
        raise DecodeError("the signature is not in its one spelling")
    payload: bytes = decoded["payload"]
    return payload


def _material(key: SigningKey | VerificationKey) -> Any:
    return key.secret if isinstance(key, SharedSecret) else key.key


def is_asymmetric_key(key: SharedSecret) -> bool:
    """Return whether `key` is a PEM, ssh or JWK key rather than a shared secret."""
    try:
        _QuietHMAC(HMACAlgorithm.SHA256).prepare_key(key.secret)
    except InvalidKeyError:
        return True
    return False
