"""Mint a token: a pure function of settings, key and time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.settings import Settings

from .keys import SigningKey

__all__ = ["AccessToken", "mint"]


@dataclass(frozen=True, slots=True)
class AccessToken(HoldsSecret):
    """A signed JWT, when it was issued and when it expires."""

    value: str = field(repr=False)  # must never reach a log or a traceback
    issued_at: int
    """Unix time, seconds: the token's `iat`."""
    expires_at: int
    """Unix time, seconds: the token's `exp`."""


def mint(settings: Settings, key: SigningKey, now: float) -> AccessToken:
    """Sign a new token. A setting that it reads belongs to `token_cache._inputs` as well.

    Args:
        settings: Issuer, audience, subject, scope, lifetime and clock skew.
        key: What signs.
        now: Unix time, seconds.

    Raises:
        ImportError: PyJWT cannot be imported.
    """
    from .jws import sign  # PyJWT costs 60 ms to import: not before the first token

    # Whole seconds, rounded down: a float or a rounded-up `iat` is "issued in the future" to
    # strict verifiers (PyJWT without leeway, joserfc).
    issued_at = math.floor(now) - clock_skew(settings)
    expires_at = issued_at + settings.ttl_seconds
    claims = {
        "iss": settings.issuer,
        "aud": settings.audience,
        "sub": settings.subject,
        "iat": issued_at,
        "exp": expires_at,
    }
    if settings.scope is not None:
        claims["scope"] = settings.scope  # RFC 8693, section 4.2
    return AccessToken(sign(claims, key), issued_at, expires_at)


def clock_skew(settings: Settings) -> int:
    """Return how many seconds `iat` is set back.

    At most a tenth of the lifetime, and never so far that a new token is stale already, which
    would mean a mint at every call.
    """
    lifetime, margin = settings.ttl_seconds, effective_margin(settings)
    return max(0, min(settings.clock_skew_seconds, lifetime // 10, lifetime - margin - 1))


def effective_margin(settings: Settings) -> int:
    """Return the refresh margin in seconds: 0 if the configured one is not below the lifetime."""
    return settings.margin_seconds if settings.margin_seconds < settings.ttl_seconds else 0
