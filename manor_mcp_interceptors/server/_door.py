"""What the framework doors share: the process-wide verifier, and what the peer is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from manor_mcp_interceptors import protocols

from ._verification import Judge
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
    made = verifier or _shared.get(_NAME)
    # setdefault: two threads may come here first, and must leave with the same one.
    return made or _shared.setdefault(_NAME, Judge(clock=protocols.shared.clock))


def swap_shared(judges: Mapping[str, Judge]) -> dict[str, Judge]:
    """Put `judges` in the place of the process-wide verifier, which is returned; for tests."""
    before = dict(_shared)
    _shared.clear()
    _shared.update(judges)
    return before


def challenge(reason: Reason) -> str:
    """Return the ``WWW-Authenticate`` value that goes with a refusal (RFC 6750, section 3.1)."""
    if reason in NO_TOKEN_SENT:
        return "Bearer"
    return f'Bearer error="invalid_token", error_description="{PHRASE}"'
