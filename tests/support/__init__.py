"""Small stand-ins that many tests use: a clock, a gate, a secret that is none."""

from __future__ import annotations

import jwt

from manor_mcp_interceptors.testing import FakeClock, StaticGate

__all__ = [
    "AUDIENCE",
    "FLAG",
    "OTHER_SECRET",
    "SECRET",
    "FakeClock",
    "StaticGate",
    "legacy_check",
    "signed_with",
]

SECRET = "not-a-secret-" + "0123456789" * 3
"""43 bytes, long enough for HS256; it opens nothing."""
OTHER_SECRET = "another-one--" + "9876543210" * 3
"""As long as SECRET."""
FLAG = "manor_search_enable_api_token_v1"
AUDIENCE = "service-search-mcp"


def legacy_check(token: str, secret: str = SECRET, audience: str = AUDIENCE) -> dict[str, object]:
    """Check a token as services do today; raises what PyJWT raises."""
    claims: dict[str, object] = jwt.decode(token, secret, algorithms=["HS256"], audience=audience)
    return claims


def signed_with(token: str, secret: str) -> bool:
    """Return whether `secret` signed the token, whatever the time."""
    try:
        jwt.api_jws.decode(token, secret, algorithms=["HS256"])
    except jwt.InvalidSignatureError:
        return False
    return True
