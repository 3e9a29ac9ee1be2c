"""What a payload must say to be accepted. Pure functions: no key, no clock."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .reasons import Reason, Refused

MAX_AHEAD_SECONDS: Final = 60
"""How far `iat` may lie in the future: the clocks of two hosts differ."""
MAX_NUMBER: Final = 2**53
"""The largest whole number that every JSON parser reads alike (RFC 7493, section 2.2)."""

_REQUIRED: Final = ("iss", "aud", "sub", "iat", "exp")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """The claims of a token that was accepted. Immutable, so that requests may share it."""

    subject: str
    """`sub`: the service that calls."""
    issuer: str
    audience: str
    """The one of the token's audiences that is this service."""
    issued_at: int
    """Unix time, seconds."""
    expires_at: int
    """Unix time, seconds; from this second on the token is refused."""
    claims: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, hash=False
    )
    """All claims, read-only through and through: JSON's arrays are tuples here."""

    def copy_claims(self) -> dict[str, Any]:
        """Return all claims in plain dicts and lists, which are the caller's own."""
        claims: dict[str, Any] = _thaw(self.claims)
        return claims


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token's claims are held against."""

    issuer: str
    audience: str
    leeway: float
    """Seconds by which `exp` and `nbf` may be missed."""
    subjects: frozenset[str] | None
    """The subjects that may call; None means any."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A token whose claims are right, and the times between which it is."""

    token: VerifiedToken
    valid_from: float
    valid_until: float

    def at(self, now: float) -> VerifiedToken:
        """Return the token where it is valid at `now`, Unix time; raise Refused elsewhere."""
        if now >= self.valid_until:
            raise Refused(Reason.EXPIRED)
        if now < self.valid_from:
            raise Refused(Reason.NOT_YET_VALID)
        return self.token


def judge_claims(payload: bytes, rules: Rules) -> Acceptance:
    """Return from when to when a token with this payload is accepted.

    Raises:
        Refused: It never is.
    """
    token, not_before = _read(parse_object(payload), rules.audience)
    if token.issuer != rules.issuer:
        raise Refused(Reason.ISSUER)
    if rules.subjects is not None and token.subject not in rules.subjects:
        raise Refused(Reason.SUBJECT)
    valid_from = max(token.issued_at - MAX_AHEAD_SECONDS, not_before - rules.leeway)
    return Acceptance(token, valid_from, token.expires_at + rules.leeway)


def _read(claims: Mapping[str, Any], audience: str) -> tuple[VerifiedToken, float]:
    """Return the claims that every token has, each of its type, and `nbf`."""
    if any(name not in claims for name in _REQUIRED):
        raise Refused(Reason.CLAIM_MISSING)
    audiences = claims["aud"] if isinstance(claims["aud"], tuple) else (claims["aud"],)
    token = VerifiedToken(
        subject=_text(claims["sub"]),
        issuer=_text(claims["iss"]),
        audience=audience,
        issued_at=_whole_seconds(claims["iat"]),
        expires_at=_whole_seconds(claims["exp"]),
        claims=claims,
    )
    not_before = _whole_seconds(claims["nbf"]) if "nbf" in claims else -math.inf
    # Text, or a list of texts (RFC 7519, section 4.1.3).
    if audience not in [_text(each) for each in audiences]:
        raise Refused(Reason.AUDIENCE)
    return token, not_before


def parse_object(data: bytes) -> Mapping[str, Any]:
    """Return the one JSON object that is `data`, read-only.

    Raises:
        Refused: It is no JSON, or not read alike by all: a name in it occurs twice.
    """
    try:
        claims = json.loads(
            data.decode("utf-8"),  # json.loads of bytes would take UTF-16 as well
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        claims = _freeze(claims)
    except (ValueError, RecursionError):
        raise Refused(Reason.MALFORMED) from None
    if not isinstance(claims, Mapping):
        raise Refused(Reason.MALFORMED)
    return claims


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")  # which of the two would others believe?
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("1e999 is JSON, and no number")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(Reason.CLAIM_INVALID)
    return value


def _whole_seconds(value: Any) -> int:
    """Return a NumericDate in whole seconds, rounded down as PyJWT does."""
    # bool is an int in Python, and no date.
    if type(value) not in (int, float) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise Refused(Reason.CLAIM_INVALID)
    seconds: int = math.floor(value)
    return seconds


def _freeze(value: Any) -> Any:
    if isinstance(value, str):
        value.encode()  # a lone surrogate is JSON, and breaks whoever prints it
    if isinstance(value, dict):
        return MappingProxyType({_freeze(k): _freeze(member) for k, member in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _thaw(member) for name, member in value.items()}
    return list(map(_thaw, value)) if isinstance(value, tuple) else value
