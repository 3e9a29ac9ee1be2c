"""PyJWT, set up for the one algorithm of this library. Importing this imports PyJWT."""

from __future__ import annotations

import json
from typing import Any, Final

from jwt import PyJWS
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from .signing_key import SigningKey

ALGORITHMS: Final = ["HS256"]
"""A literal list: taking it from the token's header is the oldest JWT attack there is."""


class _QuietHMAC(HMACAlgorithm):
    """HS256 without PyJWT's warning of a short secret at each call: `form_warnings` has one."""

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - PyJWT's signature
        return None


def new_jws() -> PyJWS:
    """Return a PyJWS that signs and verifies HS256 and knows no other algorithm."""
    jws = PyJWS(algorithms=ALGORITHMS)
    jws.unregister_algorithm("HS256")
    jws.register_algorithm("HS256", _QuietHMAC(HMACAlgorithm.SHA256))
    return jws


_jws: Final = new_jws()


def sign(claims: dict[str, Any], key: SigningKey) -> str:
    """Return the compact JWS of `claims`."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    headers = {"kid": key.key_id} if key.key_id is not None else None
    return _jws.encode(payload, key.secret, "HS256", headers)


def is_asymmetric_key(key: SigningKey) -> bool:
    """Return whether `key` is a PEM, ssh or JWK key rather than a shared secret."""
    try:
        _QuietHMAC(HMACAlgorithm.SHA256).prepare_key(key.secret)
    except InvalidKeyError:
        return True
    return False
