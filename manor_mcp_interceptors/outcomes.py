"""The provider's decisions, and its status for operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._hosts import AllowedHosts

__all__ = ["Decision", "Outcome", "TokenStatus"]


class Outcome(str, Enum):
    """Why a call carries a token, or why it carries none."""

    OK = "ok"
    """The flag is on and there is a token."""
    FLAG_OFF = "flag_off"
    """The feature flag is off for this service."""
    NOT_CONFIGURED = "not_configured"
    """No secret is set."""
    INVALID_CONFIG = "invalid_config"
    """A setting or the secret is not usable; the reason names it."""
    PYJWT_MISSING = "pyjwt_missing"
    """PyJWT cannot be imported."""
    SIGNING_FAILED = "signing_failed"
    """Signing raised an error, and no earlier token is still valid."""
    TARGET_NOT_ALLOWED = "target_not_allowed"
    """`allowed_hosts` does not include the request's host."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer for all calls until its lease ends. Immutable, so threads may share it."""

    token: str | None = field(repr=False)
    """The JWT to send, or None: send the call without one."""
    authorization: str | None = field(repr=False)
    """The ready header value, ``Bearer <jwt>``, or None."""
    metadata_entry: tuple[str, str] | None = field(repr=False)
    """The ready gRPC metadata entry, ``("authorization", "Bearer <jwt>")``, or None."""
    outcome: Outcome
    reason: str
    """The outcome in a sentence, for people; it never holds a secret or a token."""
    valid_until: float
    """Monotonic seconds until which the decision is trusted without another look."""
    allowed_hosts: AllowedHosts | None = None
    """The hosts that the settings allow an HTTP adapter to send the token to; None: any."""
    valid_from: float = float("-inf")
    """Monotonic seconds before which it is not: a test may freeze and release that clock."""

    def __reduce__(self) -> tuple[type[Decision], tuple[object, ...]]:
        """Pickle what was decided, without the token; no lease outlives its process."""
        ended = float("-inf")
        return Decision, (None, None, None, self.outcome, self.reason, ended, self.allowed_hosts)

    def __copy__(self) -> Decision:
        return self

    def __deepcopy__(self, _: object) -> Decision:
        return self


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
    """The variable, file or field of the secret; None if there is no usable secret."""
    seconds_to_expiry: float | None
    """Seconds until the token's `exp`; None if there is no token."""
