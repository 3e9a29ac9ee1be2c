"""What the framework doors share: the process-wide verifier, and what the peer is told."""

from __future__ import annotations

from typing import Final

from ._judge import Judge
from .reasons import Reason
from .verifier import TokenVerifier

PHRASE: Final = "invalid or missing bearer token"
"""What a peer hears, whatever is wrong: the reason is for the server's log alone."""

_NAME: Final = "from the environment"

NO_TOKEN_SENT: Final = frozenset({Reason.MISSING, Reason.NOT_BEARER})


_shared: Final[dict[str, Judge]] = {}


def judge_of(verifier: TokenVerifier | None) -> Judge:
    """Return `verifier`, or the process-wide one, which refuses everything while unconfigured.

    Unlike a `TokenVerifier` it raises nothing for want of a secret: it is made in the middle of
    a request, where refusing is the answer.
    """
    # setdefault: two threads may come here first, and must leave with the same one.
    return verifier or _shared.get(_NAME) or _shared.setdefault(_NAME, Judge())


def forget_shared() -> None:
    """Have the next call make the process-wide verifier anew."""
    _shared.clear()


def challenge(reason: Reason) -> str:
    """Return the ``WWW-Authenticate`` value that goes with a refusal (RFC 6750, section 3.1)."""
    if reason in NO_TOKEN_SENT:
        return "Bearer"
    return f'Bearer error="invalid_token", error_description="{PHRASE}"'
