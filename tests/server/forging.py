"""Tokens made by hand, without the library under test and without PyJWT."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from tests.support import AUDIENCE, SECRET

NOW = 1_800_000_000
"""The time of `FakeClock`, in whole seconds."""


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
    secret: str = SECRET,
    header: dict[str, Any] | str | None = None,
) -> str:
    """Sign anything at all with HS256, whatever the header says."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    parts = [_bytes(header), _bytes(payload)]
    signed = ".".join(b64(part) for part in parts)
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(signature)}"


def _bytes(value: dict[str, Any] | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return (json.dumps(value) if isinstance(value, dict) else value).encode()
