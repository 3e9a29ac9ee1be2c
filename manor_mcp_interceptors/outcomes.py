"""Why a call carries a token or not: the outcomes, and the status for operators."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Outcome", "TokenStatus"]


class Outcome(str, Enum):
    """Why a call carries a token, or why it carries none."""

    OK = "ok"
    """The flag is on and there is a token."""
    FLAG_OFF = "flag_off"
    """The feature flag is off for this service."""
    NOT_CONFIGURED = "not_configured"
    """No secret or other source of tokens is set, or the source has none for this audience."""
    INVALID_CONFIG = "invalid_config"
    """A setting, the secret or the token that was given is not usable; the reason names it."""
    PYJWT_MISSING = "pyjwt_missing"
    """PyJWT cannot be imported."""
    SIGNING_FAILED = "signing_failed"
    """Signing raised an error, and no earlier token is still valid."""
    SOURCE_FAILED = "source_failed"
    """The token source raised or gave no answer in time, and no earlier token is still valid."""
    TARGET_NOT_ALLOWED = "target_not_allowed"
    """`allowed_hosts` does not include the request's host."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """The outcome of a call made now, and the reason. Safe to print: no secret, no token."""

    outcome: Outcome
    reason: str
    flag: str
    """The feature flag's key."""
    flag_enabled: bool
    flag_source: str
    """The source of the flag's answer: a variable, a package, a gate's class."""
    issuer: str | None
    """None if the settings cannot be read, as are the next two."""
    audience: str | None
    subject: str | None
    secret_source: str | None
    """The variable, file or field of the secret, the private key or the token, or the name of the
    token source; None if there is none that is usable."""
    seconds_to_expiry: float | None
    """Seconds until the token's `exp`; None if there is no token, or it does not say."""
