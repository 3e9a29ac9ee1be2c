"""Why a token is refused: words for logs and counters, and the one message for the client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Reason"]

REFUSAL_MESSAGE: Final = "invalid or missing bearer token"
"""What the client is told, whatever the reason: the reason is for the server's log only."""
SCOPE_MESSAGE: Final = "insufficient scope"
"""The exception: a client with a valid token must know that another token would not help."""
POLICY_VIOLATION: Final = 1008
"""What a refused WebSocket is closed with (RFC 6455, section 7.4.1); before the handshake is
complete, servers answer 403."""


class Reason(str, Enum):
    """The `reason` of a `TokenRejectedError`. The words are stable: dashboards may count them."""

    MISSING = "missing"
    """There is no ``Authorization``, or an empty one."""
    MULTIPLE = "multiple"
    """There is more than one ``Authorization``."""
    NOT_BEARER = "not_bearer"
    """``Authorization`` has another scheme, or not the form of RFC 6750."""
    TOO_LARGE = "too_large"
    """The token is longer than 8 KiB; it was not read."""
    MALFORMED = "malformed"
    """Not a compact JWS with a JSON object inside, or a member of the object occurs twice."""
    HEADER = "header"
    """The header asks for something unsupported: ``crit``, or a `kid` that is not text."""
    ALGORITHM = "algorithm"
    """The algorithm is that of no key in use, or the token is not signed."""
    UNKNOWN_KEY = "unknown_key"
    """No key in use has the token's `kid`, or it names none and there are public keys only."""
    SIGNATURE = "signature"
    """The token was not signed with the key that it names, or with any of the secrets in use."""
    CLAIM_MISSING = "claim_missing"
    """One of `iss`, `aud`, `sub`, `iat`, `exp` is missing."""
    CLAIM_INVALID = "claim_invalid"
    """A claim has the wrong type, or is a number out of range; in forward authentication, also a
    subject or scope that no header can carry."""
    ISSUER = "issuer"
    """`iss` is not the configured one."""
    AUDIENCE = "audience"
    """`aud` does not name this service."""
    SUBJECT = "subject"
    """`sub` is not one of the allowed subjects, or the key speaks for another one."""
    SCOPE = "scope"
    """`scope` lacks one that is required. The client gets 403, or PERMISSION_DENIED."""
    EXPIRED = "expired"
    """`exp` has passed."""
    NOT_YET_VALID = "not_yet_valid"
    """`nbf` is in the future, or `iat` is by more than 60 seconds."""
    OTHER_ISSUER = "other_issuer"
    """The token does not name the configured issuer, and the verifier has ``other_issuers=True``:
    this is no refusal, as another verifier may accept it."""
    NOT_CONFIGURED = "not_configured"
    """This server has no key to verify with."""
    INVALID_CONFIG = "invalid_config"
    """This server's settings or keys are not usable."""
    INTERNAL = "internal"
    """An unexpected error; the token is refused."""

    def __str__(self) -> str:
        return self.value


_NO_TOKEN_SENT: Final = frozenset({Reason.MISSING, Reason.NOT_BEARER})


def message(reason: Reason) -> str:
    """Return what the client is told of a refusal."""
    return SCOPE_MESSAGE if reason is Reason.SCOPE else REFUSAL_MESSAGE


def http_status(reason: Reason) -> int:
    """Return the HTTP status of a refusal (RFC 6750, section 3.1)."""
    return 403 if reason is Reason.SCOPE else 401


def challenge(reason: Reason, scopes: Iterable[str] = ()) -> str:
    """Return the ``WWW-Authenticate`` value for a refusal (RFC 6750, section 3.1).

    Args:
        reason: Why the call is refused.
        scopes: Those that the call requires.
    """
    if reason is Reason.SCOPE:
        return f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
    if reason in _NO_TOKEN_SENT:
        return "Bearer"
    return f'Bearer error="invalid_token", error_description="{REFUSAL_MESSAGE}"'


@dataclass(frozen=True, slots=True)
class Unverified:
    """A call without a valid token, before it is refused or let through."""

    reason: Reason
    subject: str | None = None
    """`sub`, if the signature is good."""
    detail: str = ""


class Refused(Exception):  # noqa: N818 - it is caught inside this package
    """Carries a reason from the check that failed to the code that counts it."""

    def __init__(self, reason: Reason, subject: str | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.subject = subject
        """`sub`, if the signature is good."""
