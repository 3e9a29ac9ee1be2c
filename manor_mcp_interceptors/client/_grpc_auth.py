"""Shared by all gRPC adapters: what a call is sent with, and what a refusal leads to."""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import Any, Final

from manor_mcp_interceptors._decision.decision import Decision, without_token
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._bound_provider import BoundProvider
from ._grpc_metadata import add_entry, has_authorization, replace_details, reusable
from ._grpc_unavailable import TokenUnavailableRpcError

AS_IS: Final = without_token(Outcome.OK, "the call is sent unchanged")
"""For a call whose caller set `authorization`, and after an error in this package."""

NOTICEABLE_WAIT: Final = 0.01
"""Seconds; a shorter wait for a decision leaves the caller's timeout as it is."""

SHORTEST_TIMEOUT: Final = 0.000_001
"""Seconds; for a call whose time is up: gRPC itself then reports DEADLINE_EXCEEDED."""


class Attempt:
    """What one try of a call is sent with."""

    __slots__ = ("_deadline", "_decision", "_original_metadata", "metadata", "timeout")

    def __init__(
        self, decision: Decision, metadata: Any, timeout: float | None, deadline: float | None
    ) -> None:
        """Add the token of `decision`, if it has one, to the caller's metadata."""
        entry = decision.metadata_entry
        self._decision = decision
        self._original_metadata = metadata
        self._deadline = deadline
        self.metadata = metadata if entry is None else add_entry(metadata, entry)
        self.timeout = timeout if deadline is None else _timeout_left(timeout, deadline)

    @property
    def token(self) -> str | None:
        """The token that is sent, or None."""
        return self._decision.token

    def details(self, original: Any) -> Any:
        """Return the call details of this try."""
        if self.timeout != getattr(original, "timeout", None):
            return replace_details(original, metadata=self.metadata, timeout=self.timeout)
        if self.metadata is original.metadata:
            return original
        return replace_details(original, metadata=self.metadata)

    def time_left(self) -> float | None:
        """Return how many seconds of the caller's timeout are left; None: no timeout."""
        return None if self._deadline is None else self._deadline - monotonic()

    def again(self, decision: Decision) -> Attempt | None:
        """Return a second try, with the time that is left; None if it could not succeed."""
        left = self.time_left()
        if decision.token in (None, self.token) or (left is not None and left <= 0):
            return None
        return Attempt(decision, self._original_metadata, left, self._deadline)


def _timeout_left(timeout: Any, deadline: float) -> Any:
    left = deadline - monotonic()
    return timeout if timeout - left < NOTICEABLE_WAIT else max(left, SHORTEST_TIMEOUT)


class GrpcAuth:
    """Attaches tokens and renews refused ones. An error in this package breaks no call."""

    __slots__ = ("_bound", "_log_throttle", "_required")

    def __init__(
        self, provider: MCPTokenProvider | None, audience: str | None, *, required: bool
    ) -> None:
        self._bound = BoundProvider(provider, audience, required=required)
        self._required = required
        self._log_throttle = LogThrottle(math.inf)

    def attempt(self, metadata: Any = None, timeout: float | None = None) -> Attempt:
        """Return what a call with this metadata and timeout is sent with.

        Raises:
            TokenUnavailableRpcError: There is no token, and a token is required.
        """
        if metadata is not None:
            metadata = reusable(metadata)
        try:
            deadline = None if timeout is None else monotonic() + timeout
            is_set = metadata and has_authorization(metadata)
            decision = AS_IS if is_set else self._bound.decision(timeout)
            return Attempt(decision, metadata, timeout, deadline)
        except Exception as error:
            failure = self._failure(error)
        if failure is not None:  # raised here: its context must not hold an error's locals
            raise failure
        return Attempt(AS_IS, metadata, timeout, None)

    def attempt_for(self, details: Any) -> Attempt:
        """As `attempt`, for a call with these details."""
        return self.attempt(details.metadata, getattr(details, "timeout", None))

    async def attempt_async(self, details: Any) -> Attempt:
        """As `attempt_for`; a wait for flag or token source yields to the event loop."""
        metadata, timeout = reusable(details.metadata), details.timeout
        try:
            deadline = None if timeout is None else monotonic() + timeout
            is_set = metadata and has_authorization(metadata)
            decision = AS_IS if is_set else await self._bound.decision_async(timeout)
            return Attempt(decision, metadata, timeout, deadline)
        except Exception as error:
            failure = self._failure(error)
        if failure is not None:
            raise failure
        return Attempt(AS_IS, metadata, timeout, None)

    def refuse(self, refused: Attempt) -> None:
        """Report to the provider that a server refused the token of `refused`."""
        try:
            if refused.token is not None:
                self._bound.provider.invalidate(refused.token)
        except Exception as error:
            self._failure(error)

    def renew(self, refused: Attempt) -> Attempt | None:
        """Report a refusal; return the second try, or None if the refusal stands."""
        self.refuse(refused)
        try:
            return self._counted(refused.again(self._bound.decision(refused.time_left())))
        except Exception as error:
            self._failure(error)
            return None

    async def renew_async(self, refused: Attempt) -> Attempt | None:
        """As `renew`; a wait for flag or token source yields to the event loop."""
        self.refuse(refused)
        try:
            return self._counted(
                refused.again(await self._bound.decision_async(refused.time_left()))
            )
        except Exception as error:
            self._failure(error)
            return None

    def _counted(self, second: Attempt | None) -> Attempt | None:
        if second is not None:
            self._bound.provider.counters.count("retries")
        return second

    def _failure(self, error: Exception) -> TokenUnavailableRpcError | None:
        """Return the error of a call that requires a token; log an error that is a bug, once."""
        if isinstance(error, TokenUnavailableError):
            return TokenUnavailableRpcError(str(error), error.outcome)
        kind = type(error).__name__
        if self._log_throttle.due(kind):
            # The type alone: the text of an error may hold what was about to be sent.
            log(logging.WARNING, "MCP auth failed on a gRPC call: %s", kind)
        if not self._required:
            return None
        reason = f"this call requires a token and none could be made: {kind}"
        return TokenUnavailableRpcError(reason, Outcome.SIGNING_FAILED)
