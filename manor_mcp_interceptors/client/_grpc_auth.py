"""What the gRPC interceptors share: which token a call carries, and what a refusal leads to."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from grpc import Call, Future, RpcError, StatusCode
from grpc.aio import AioRpcError, Metadata

from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Decision, Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_metadata import add_entry, has_authorization, replace_details, with_metadata
from ._token_source import TokenSource

_logger = logging.getLogger("manor_mcp_interceptors")


class Attempt:
    """One call that carries our token, and what it takes to make it once more."""

    __slots__ = ("_deadline", "_original", "details", "token")

    def __init__(self, original: Any, token: str, entry: tuple[str, str]) -> None:
        self._original = original
        timeout = getattr(original, "timeout", None)
        self._deadline = None if timeout is None else monotonic() + timeout
        self.details = with_metadata(original, add_entry(original.metadata, entry))
        self.token = token

    def again(self, decision: Decision) -> Any:
        """Return the details of a second try; None where it could not differ, or is too late."""
        if decision.metadata_entry is None or decision.token == self.token:
            return None
        changes: dict[str, Any] = {
            "metadata": add_entry(self._original.metadata, decision.metadata_entry)
        }
        if self._deadline is not None:
            # What remains: with the caller's timeout anew, two tries could take twice as long.
            changes["timeout"] = remaining = self._deadline - monotonic()
            if remaining <= 0:
                return None
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

    def attach(self, details: Any) -> Attempt | None:
        """Return the call with a token; None: send it as the caller made it.

        Raises:
            TokenUnavailableRpcError: There is no token, and a token is required.
        """
        try:
            if has_authorization(details.metadata):
                return None
            decision = self._source.decision()
            if decision.token is None or decision.metadata_entry is None:
                return None
            return Attempt(details, decision.token, decision.metadata_entry)
        except Exception as error:
            self._go_without(error)
            return None

    async def attach_async(self, details: Any) -> Attempt | None:
        """As `attach`, without holding up the event loop where a flag's backend is slow."""
        try:
            if has_authorization(details.metadata):
                return None
            decision = await self._source.decision_async()
            if decision.token is None or decision.metadata_entry is None:
                return None
            return Attempt(details, decision.token, decision.metadata_entry)
        except Exception as error:
            self._go_without(error)
            return None

    def entry(self) -> tuple[str, str] | None:
        """Return the metadata entry for a call made now; None: send it without one.

        Raises:
            TokenUnavailableRpcError: There is no token, and a token is required.
        """
        try:
            return self._source.decision().metadata_entry
        except Exception as error:
            self._go_without(error)
            return None

    def refuse(self, token: str) -> None:
        """Tell the provider that a server refused `token`."""
        try:
            self._source.provider.invalidate(token)
        except Exception as error:
            self._log(error)

    def renew(self, attempt: Attempt) -> Any:
        """Tell the provider of a refusal; return the details of a second try, or None."""
        self.refuse(attempt.token)
        try:
            return self._counted(attempt.again(self._source.provider.decision()))
        except Exception as error:
            self._log(error)
            return None

    async def renew_async(self, attempt: Attempt) -> Any:
        """As `renew`, without holding up the event loop."""
        self.refuse(attempt.token)
        try:
            return self._counted(attempt.again(await self._source.provider.decision_async()))
        except Exception as error:
            self._log(error)
            return None

    def _counted(self, second_try: Any) -> Any:
        if second_try is not None:
            self._source.provider.counters.count("retries")
        return second_try

    def _go_without(self, error: Exception) -> None:
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

    def _log(self, error: Exception) -> None:
        if not self._has_logged:
            self._has_logged = True
            # The type alone: an error's text may hold what was on its way to the wire.
            _logger.warning("MCP auth failed on a gRPC call: %s", type(error).__name__)


class TokenUnavailableRpcError(TokenUnavailableError, AioRpcError, Call, Future):  # type: ignore[misc, type-arg]
    """No token where one is required; nothing was sent.

    It is the error, sync and aio, and it is the failed call, as grpc's own errors are: so it
    reaches the caller the same way from a plain call, `with_call`, a future and a stream.
    """

    def __init__(self, message: str, outcome: Outcome) -> None:
        AioRpcError.__init__(
            self, StatusCode.UNAUTHENTICATED, Metadata(), Metadata(), message, None
        )
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.details(), self.outcome)

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - it has ended
        raise self

    def exception(self, timeout: float | None = None) -> RpcError:  # noqa: ARG002
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        return self.__traceback__

    def add_done_callback(self, fn: Any) -> None:
        fn(self)

    def add_callback(self, callback: Any) -> bool:  # noqa: ARG002 - False: it will not be called
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def is_active(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def time_remaining(self) -> Any:
        return None

    def __iter__(self) -> TokenUnavailableRpcError:
        return self

    def __next__(self) -> Any:
        raise self
