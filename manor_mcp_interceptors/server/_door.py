"""What the framework doors share: the process-wide verifier, and what the peer is told."""

from __future__ import annotations

import threading
from typing import Final

from ._process_wide import process_wide
from ._verification import Judge
from .reasons import Reason
from .verifier import TokenVerifier

PHRASE: Final = "invalid or missing bearer token"
"""What a peer hears, whatever is wrong: the reason is for the server's log alone."""

NO_TOKEN_SENT: Final = frozenset({Reason.MISSING, Reason.NOT_BEARER})

_lock: Final = threading.Lock()


def judge_of(verifier: TokenVerifier | None) -> Judge:
    """Return `verifier`, or the process-wide one, which refuses everything while unconfigured.

    Unlike a `TokenVerifier` it raises nothing for want of a secret: it is made in the middle of
    a request, where refusing is the answer.
    """
    if verifier is not None:
        return verifier
    if process_wide.verification is None:
        made = Judge(clock=process_wide.clock)
        with _lock:
            # Another thread may have made one meanwhile: all must use the same.
            process_wide.verification = process_wide.verification or made
    return process_wide.verification


def challenge(reason: Reason) -> str:
    """Return the ``WWW-Authenticate`` value that goes with a refusal (RFC 6750, section 3.1)."""
    if reason in NO_TOKEN_SENT:
        return "Bearer"
    return f'Bearer error="invalid_token", error_description="{PHRASE}"'
