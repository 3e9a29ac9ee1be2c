"""Why a token is refused: words for logs and counters, which the peer never hears."""

from __future__ import annotations

from enum import Enum

__all__ = ["Reason"]


class Reason(str, Enum):
    """The `reason` of a `TokenRejectedError`. The words are stable: dashboards may count them."""

    MISSING = "missing"
    """No ``Authorization`` was sent, or an empty one."""
    MULTIPLE = "multiple"
    """More than one ``Authorization`` was sent."""
    NOT_BEARER = "not_bearer"
    """``Authorization`` is of another scheme, or not of RFC 6750's form."""
    TOO_LARGE = "too_large"
    """The token is longer than 8 KiB; nothing of it was read."""
    MALFORMED = "malformed"
    """Not a compact JWS with a JSON object inside, or a member of the object occurs twice."""
    HEADER = "header"
    """The header asks for something that is not understood: ``crit``, a `kid` that is no text."""
    ALGORITHM = "algorithm"
    """Signed, or not signed, with anything but HS256."""
    UNKNOWN_KEY = "unknown_key"
    """Its `kid` is not the configured one, and no previous secret is set."""
    SIGNATURE = "signature"
    """None of the secrets in use signed it."""
    CLAIM_MISSING = "claim_missing"
    """One of `iss`, `aud`, `sub`, `iat`, `exp` is not there."""
    CLAIM_INVALID = "claim_invalid"
    """A claim has the wrong type, or is a number beyond all use."""
    ISSUER = "issuer"
    """`iss` is not the configured one."""
    AUDIENCE = "audience"
    """`aud` does not name this service."""
    SUBJECT = "subject"
    """`sub` is not among the allowed ones."""
    EXPIRED = "expired"
    """`exp` has passed."""
    NOT_YET_VALID = "not_yet_valid"
    """`nbf` lies ahead, or `iat` does by more than 60 seconds."""
    NOT_CONFIGURED = "not_configured"
    """This server has no secret to verify with."""
    INVALID_CONFIG = "invalid_config"
    """This server's settings or secret are not usable."""
    INTERNAL = "internal"
    """Something else went wrong; whatever it was, the token is refused."""

    def __str__(self) -> str:
        return self.value


class Refused(Exception):  # noqa: N818 - it ends a judgement and never leaves this package
    """Carries a reason from where it is found to where it is counted."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
