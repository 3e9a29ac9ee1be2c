"""What the gRPC interceptors share: which token a call carries, and what a refusal leads to."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, Final, NamedTuple

from manor_mcp_interceptors._decision.decision import Decision, without_token
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_metadata import add_entry, has_authorization, replace_details, with_metadata
from ._grpc_unavailable import TokenUnavailableRpcError
from ._token_source import TokenSource

AS_IS: Final = without_token(Outcome.OK, "the call goes out as its caller made it")
"""For a call that carries none of our tokens: its caller has put an authorization on it."""


def deadline_of(timeout: float | None) -> float | None:
    """Return the moment, in monotonic seconds, at which a call's time is up."""
    return None if timeout is None else monotonic() + timeout


class SecondTry(NamedTuple):
    """What a call is made once more with."""

    decision: Decision
    timeout: float | None
    """What remains of the caller's: anew, two tries could take twice as long."""

    def metadata(self, own: Any) -> Any:
        """Return the caller's own metadata with the new token's entry."""
        entry = self.decision.metadata_entry
        return own if entry is None else add_entry(own, entry)


class Attempt:
    """One call that carries our token, and what it takes to make it once more."""

    __slots__ = ("_original", "deadline", "decision", "details")

    def __init__(self, original: Any, decision: Decision, entry: tuple[str, str]) -> None:
        self._original = original
        self.deadline = deadline_of(getattr(original, "timeout", None))
        self.decision = decision
        self.details = with_metadata(original, add_entry(original.metadata, entry))

    def again(self, second: SecondTry | None) -> Any:
        """Return the details of a second try; None: the refusal stands."""
        if second is None:
            return None
        changes = {"metadata": second.metadata(self._original.metadata)}
        if self.deadline is not None:
            changes["timeout"] = second.timeout
        return replace_details(self._original, **changes)


class GrpcAuth:
    """Attaches tokens and renews refused ones. Nothing that goes wrong in here breaks a call."""

    __slots__ = ("_has_logged", "_required", "_source")

    def __init__(
        self, provider: MCPTokenProvider | None, audience: str | None, *, required: bool
    ) -> None:
        self._source = TokenSource(provider, audience, required=required)
        self._required = required
        self._has_logged = False

    def leased(self, metadata: Any) -> Decision | None:
        """Return what a call with that metadata is to carry; no entry: send it as it is.

        None where that takes more than a look: `decision` or `decision_async` tell it then.
        """
        try:
            if metadata and has_authorization(metadata):
                return AS_IS
            latest = self._source.provider.decision()
            if otel.annotate is not None:
                otel.annotate(latest.outcome.value)
            return latest if latest.token or not self._required else None  # noqa: TRY300
        except Exception as error:
            return None if self._required else self._go_without(error)

    def decision(self, metadata: Any = None) -> Decision:
        """As `leased`, however long it takes.

        Raises:
            TokenUnavailableRpcError: There is no token, and a token is required.
        """
        try:
            if metadata and has_authorization(metadata):
                return AS_IS
            return self._source.decision()
        except Exception as error:
            return self._go_without(error)

    async def decision_async(self, metadata: Any) -> Decision:
        """As `decision`, without holding up the event loop where a flag's backend is slow."""
        try:
            if metadata and has_authorization(metadata):
                return AS_IS
            return await self._source.decision_async()
        except Exception as error:
            return self._go_without(error)

    def attach(self, details: Any) -> Attempt | None:
        """Return the call with a token; None: send it as the caller made it.

        Raises:
            TokenUnavailableRpcError: There is no token, and a token is required.
        """
        metadata = details.metadata
        return self._attempt(details, self.leased(metadata) or self.decision(metadata))

    async def attach_async(self, details: Any) -> Attempt | None:
        """As `attach`, without holding up the event loop where a flag's backend is slow."""
        metadata = details.metadata
        decision = self.leased(metadata) or await self.decision_async(metadata)
        return self._attempt(details, decision)

    def _attempt(self, details: Any, decision: Decision) -> Attempt | None:
        if decision.metadata_entry is None:
            return None
        try:
            return Attempt(details, decision, decision.metadata_entry)
        except Exception as error:
            self._go_without(error)
            return None

    def refuse(self, decision: Decision) -> None:
        """Tell the provider that a server refused the token of `decision`."""
        try:
            if decision.token is not None:
                self._source.provider.invalidate(decision.token)
        except Exception as error:
            self._log(error)

    def renew(self, refused: Decision, deadline: float | None) -> SecondTry | None:
        """Tell the provider of a refusal; return what a second try is made with.

        None: it could not differ, or it is too late. The refusal stands.
        """
        self.refuse(refused)
        try:
            return self._second_try(refused, self._source.provider.decision(), deadline)
        except Exception as error:
            self._log(error)
            return None

    async def renew_async(self, refused: Decision, deadline: float | None) -> SecondTry | None:
        """As `renew`, without holding up the event loop."""
        self.refuse(refused)
        try:
            decision = await self._source.provider.decision_async()
            return self._second_try(refused, decision, deadline)
        except Exception as error:
            self._log(error)
            return None

    def _second_try(
        self, refused: Decision, decision: Decision, deadline: float | None
    ) -> SecondTry | None:
        timeout = None if deadline is None else deadline - monotonic()
        if decision.token in (None, refused.token) or (timeout is not None and timeout <= 0):
            return None
        self._source.provider.counters.count("retries")
        return SecondTry(decision, timeout)

    def _go_without(self, error: Exception) -> Decision:
        """Log an error of ours, once: the call goes out as the caller made it.

        Raises:
            TokenUnavailableRpcError: A token is required.
        """
        if isinstance(error, TokenUnavailableError):
            raise TokenUnavailableRpcError(str(error), error.outcome) from None
        self._log(error)
        kind = type(error).__name__
        del error  # a traceback that prints locals prints not what it says
        if self._required:
            raise TokenUnavailableRpcError(
                f"this call requires a token and none could be had: {kind}",
                Outcome.SIGNING_FAILED,
            ) from None
        return AS_IS

    def _log(self, error: Exception) -> None:
        if not self._has_logged:
            self._has_logged = True
            # The type alone: an error's text may hold what was on its way to the wire.
            log(logging.WARNING, "MCP auth failed on a gRPC call: %s", type(error).__name__)
