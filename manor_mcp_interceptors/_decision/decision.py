"""The decision: what all calls carry until its lease ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._hosts import AllowedHosts
from manor_mcp_interceptors.outcomes import Outcome

ENDED: Final = -math.inf
"""The end of a lease that no call may use."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for every call until its lease ends. Immutable, so threads may share it."""

    token: str | None = field(repr=False)
    """The JWT to send, or None: send the call without one."""
    authorization: str | None = field(repr=False)
    """The ready header value, ``Bearer <jwt>``, or None."""
    metadata_entry: tuple[str, str] | None = field(repr=False)
    """The ready gRPC metadata entry, ``("authorization", "Bearer <jwt>")``, or None."""
    outcome: Outcome
    reason: str
    """The outcome in a sentence, for people; it never holds a secret or a token."""
    allowed_hosts: AllowedHosts | None = None
    """The hosts that the settings allow an HTTP adapter to send the token to; None: any."""
    problem: str | None = None
    """Why the token is not a new one although it should be; None if nothing is wrong."""
    answer: FlagAnswer | None = None
    """The flag's answer; None if it was not asked."""
    valid_from: float = -math.inf
    """Unix time, seconds, from which calls may use it. Before, the clock has been set back."""
    valid_until: float = math.inf
    """Unix time, seconds, until which calls may use it."""

    def __reduce__(self) -> tuple[type[Decision], tuple[object, ...]]:
        """Pickle what was decided, without the token and the lease."""
        kept = (self.outcome, self.reason, self.allowed_hosts, self.problem, self.answer)
        return Decision, (None, None, None, *kept, ENDED, ENDED)

    def __copy__(self) -> Decision:
        return self

    def __deepcopy__(self, _: object) -> Decision:
        return self


def without_token(outcome: Outcome, reason: str, answer: FlagAnswer | None = None) -> Decision:
    """Return the decision that calls carry no token."""
    return Decision(None, None, None, outcome, reason, answer=answer)


UNDECIDED: Final = replace(
    without_token(Outcome.SIGNING_FAILED, "no decision was reached in time"), valid_until=ENDED
)
"""Stands until the first decision."""
