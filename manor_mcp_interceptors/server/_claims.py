"""Check the claims of a payload. Pure functions: no key, no clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from manor_mcp_interceptors._subjects import Subjects

from .reasons import Reason, Refused

MAX_AHEAD_SECONDS: Final = 60
"""How far `iat` may be in the future: the clocks of two hosts differ."""
MAX_NUMBER: Final = 2**53
"""The largest whole number that every JSON parser reads alike (RFC 7493, section 2.2)."""

_REQUIRED: Final = ("iss", "aud", "sub", "exp")


class ReadOnlyDict(dict[str, Any]):
    """A dict that cannot be changed. Python's tools copy, pickle and encode it as a dict."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the claims of a verified token are read-only: use copy_claims()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Callable[..., ReadOnlyDict], tuple[dict[str, Any]]]:
        return ReadOnlyDict, (dict(self),)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """The claims of a verified token. Immutable, so that requests may share it."""

    subject: str
    """`sub`: the calling service."""
    issuer: str
    audience: str
    """The one of the token's audiences that is this service."""
    issued_at: int | None
    """Unix time, seconds; None if the token has none, see `Settings.issued_at`."""
    expires_at: int
    """Unix time, seconds; from this second on the token is refused."""
    scopes: tuple[str, ...] = ()
    """Those in `scope` (RFC 8693, section 4.2); empty if there is none, or if it is not text."""
    claims: Mapping[str, Any] = field(default_factory=ReadOnlyDict, repr=False, hash=False)
    """All claims, read-only at every depth: JSON arrays are tuples here."""

    def copy_claims(self) -> dict[str, Any]:
        """Return a copy of all claims in plain dicts and lists, which may be changed."""
        claims: dict[str, Any] = _thaw(self.claims)
        return claims


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Expected claim values."""

    issuer: str
    audience: str
    leeway: float
    """How many seconds a token is accepted after `exp` and before `nbf`."""
    subjects: Subjects | None
    """The subjects that may call; None means any."""
    requires_issued_at: bool = True
    """Whether a token without `iat` is refused."""


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """A token with acceptable claims, and when it is valid."""

    token: VerifiedToken
    valid_from: float
    valid_until: float

    def at(self, now: float) -> VerifiedToken:
        """Return the token if it is valid at `now`, Unix time; otherwise raise Refused."""
        if now >= self.valid_until:
            raise Refused(Reason.EXPIRED, self.token.subject)
        if now < self.valid_from:
            raise Refused(Reason.NOT_YET_VALID, self.token.subject)
        return self.token


def verify_claims(
    payload: bytes, rules: ClaimRules, key_subjects: Subjects | None = None
) -> VerifiedClaims:
    """Return the claims in `payload`, and when a token with them is valid.

    Args:
        payload: What was signed.
        rules: Those of this verifier.
        key_subjects: The subjects that the key speaks for; None: any.

    Raises:
        Refused: Such a token is never valid.
    """
    claims = parse_object(payload)
    if rules.requires_issued_at and "iat" not in claims:
        raise Refused(Reason.CLAIM_MISSING)
    token, not_before = _read(claims, rules.audience)
    if token.issuer != rules.issuer:
        raise Refused(Reason.ISSUER, token.subject)
    for allowed in (rules.subjects, key_subjects):
        if allowed is not None and not allowed.allow(token.subject):
            raise Refused(Reason.SUBJECT, token.subject)
    issued_at = -math.inf if token.issued_at is None else token.issued_at
    valid_from = max(issued_at - MAX_AHEAD_SECONDS, not_before - rules.leeway)
    return VerifiedClaims(token, valid_from, token.expires_at + rules.leeway)


def _read(claims: ReadOnlyDict, audience: str) -> tuple[VerifiedToken, float]:
    """Return the claims that every token has, each with the right type, and `nbf`."""
    if any(name not in claims for name in _REQUIRED):
        raise Refused(Reason.CLAIM_MISSING)
    audiences = claims["aud"] if isinstance(claims["aud"], tuple) else (claims["aud"],)
    token = VerifiedToken(
        subject=_text(claims["sub"]),
        issuer=_text(claims["iss"]),
        audience=audience,
        issued_at=_whole_seconds(claims["iat"]) if "iat" in claims else None,
        expires_at=_whole_seconds(claims["exp"]),
        scopes=_scopes(claims.get("scope")),
        claims=claims,
    )
    not_before = _whole_seconds(claims["nbf"]) if "nbf" in claims else -math.inf
    # Text, or a list of texts (RFC 7519, section 4.1.3).
    if audience not in [_text(each) for each in audiences]:
        raise Refused(Reason.AUDIENCE, token.subject)
    return token, not_before


def parse_object(data: bytes) -> ReadOnlyDict:
    """Return the JSON object in `data`, read-only.

    Raises:
        Refused: It is not a JSON object, or a name in it occurs twice.
    """
    try:
        claims = json.loads(
            data.decode("utf-8"),  # json.loads of bytes would accept UTF-16 too
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        claims = _freeze(claims)
    except (ValueError, RecursionError):
        raise Refused(Reason.MALFORMED) from None
    if not isinstance(claims, ReadOnlyDict):
        raise Refused(Reason.MALFORMED)
    return claims


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")  # parsers differ in which one they use
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("1e999 is JSON, but infinite as a float")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(Reason.CLAIM_INVALID)
    return value


def _scopes(value: object) -> tuple[str, ...]:
    return tuple(filter(None, value.split(" "))) if isinstance(value, str) else ()


def _whole_seconds(value: Any) -> int:
    """Return a NumericDate in whole seconds, rounded down as PyJWT does."""
    # `type`, because bool is a subclass of int.
    if type(value) not in (int, float) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise Refused(Reason.CLAIM_INVALID)
    seconds: int = math.floor(value)
    return seconds


def _freeze(value: Any) -> Any:
    if isinstance(value, str):
        value.encode()  # fails for a lone surrogate, which is JSON but cannot be printed
    if isinstance(value, dict):
        return ReadOnlyDict({_freeze(name): _freeze(member) for name, member in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _thaw(member) for name, member in value.items()}
    return list(map(_thaw, value)) if isinstance(value, tuple) else value
