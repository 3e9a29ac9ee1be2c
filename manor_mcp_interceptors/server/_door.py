"""What the framework doors share: the process-wide verifier, and what the peer is told."""

from __future__ import annotations

import threading
from typing import Final

from ._judge import Judge
from .reasons import Reason
from .verifier import TokenVerifier

PHRASE: Final = "invalid or missing bearer token"
"""What a peer hears, whatever is wrong: the reason is for the server's log alone."""

NO_TOKEN_SENT: Final = frozenset({Reason.MISSING, Reason.NOT_BEARER})


class _Shared:
    """The process-wide verifier: from the environment, made at the first call."""

    judge: Judge | None = None
    lock = threading.Lock()


def judge_of(verifier: TokenVerifier | None) -> Judge:
    """Return `verifier`, or the process-wide one, which refuses everything while unconfigured.

    Unlike a `TokenVerifier` it raises nothing for want of a secret: it is made in the middle of
    a request, where refusing is the answer.
    """
    if verifier is not None:
        return verifier
    shared = _Shared.judge
    if shared is None:
        with _Shared.lock:
            # Another thread may have made it while this one waited.
            shared = _Shared.judge = _Shared.judge or Judge()
    return shared


def forget_shared() -> None:
    """Have the next call make the process-wide verifier anew."""
    _Shared.judge = None


def challenge(reason: Reason) -> str:
    """Return the ``WWW-Authenticate`` value that goes with a refusal (RFC 6750, section 3.1)."""
    if reason in NO_TOKEN_SENT:
        return "Bearer"
    return f'Bearer error="invalid_token", error_description="{PHRASE}"'
