"""Tokens made by hand, without the library under test and without PyJWT."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.support import AUDIENCE, SECRET

if TYPE_CHECKING:
    from tests.support.key_pairs import KeyPair

NOW = 1_800_000_000
"""The time of `FakeClock`, in whole seconds."""
ALGORITHM_OF: Final = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA"}
"""By `kty`."""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(now: int = NOW, /, **changes: Any) -> dict[str, Any]:
    """Return good claims with changes; a change to `...` leaves the claim out."""
    good = {
        "iss": "manor-internal",
        "aud": AUDIENCE,
        "sub": "service-a",
        "iat": now - 5,
        "exp": now + 3600,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def forge(
    payload: dict[str, Any] | str | bytes,
    *,
    secret: str | bytes = SECRET,
    header: dict[str, Any] | str | None = None,
) -> str:
    """Sign anything at all with HS256, whatever the header says."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    signed = _signed(header, payload)
    signature = hmac.new(_bytes(secret), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(signature)}"


def forge_with(
    pair: KeyPair,
    payload: dict[str, Any] | str | bytes | None = None,
    *,
    header: dict[str, Any] | None = None,
    change: Callable[[bytes], bytes] = bytes,
) -> str:
    """Sign with a private key, whatever the header says.

    Args:
        pair: The key.
        payload: None: good claims.
        header: None: a good one; `ALGORITHM_OF` has its `alg`.
        change: What to do to the signature.
    """
    good = {"alg": ALGORITHM_OF[pair.members["kty"]], "kid": pair.kid}
    signed = _signed(good if header is None else header, claims() if payload is None else payload)
    return f"{signed}.{b64(change(pair.sign(signed.encode())))}"


def _signed(header: dict[str, Any] | str, payload: dict[str, Any] | str | bytes) -> str:
    return f"{b64(_bytes(header))}.{b64(_bytes(payload))}"


def _bytes(value: dict[str, Any] | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return (json.dumps(value) if isinstance(value, dict) else value).encode()
