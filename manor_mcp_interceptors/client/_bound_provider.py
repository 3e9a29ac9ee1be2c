"""What every adapter has: the provider that decides for it, and whether a token is required."""

from __future__ import annotations

from manor_mcp_interceptors._decision.decision import Decision
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.provider import MCPTokenProvider


class BoundProvider:
    """Decides for the calls of one adapter."""

    __slots__ = ("_required", "provider")

    def __init__(
        self, provider: MCPTokenProvider | None, audience: str | None, *, required: bool
    ) -> None:
        """Bind the provider; `configure` changes what it decides from, not which it is.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        if provider is None:
            provider = MCPTokenProvider.get_instance(audience)
        elif audience is not None:
            provider = provider.for_audience(audience)
        self.provider: MCPTokenProvider = provider
        self._required = required

    def decision(self, max_wait: float | None = None) -> Decision:
        """Return the decision for a call made now.

        Args:
            max_wait: Seconds to wait at most for flag and token source; None: this library's limit.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        decision = self.provider.decision(max_wait)
        if decision.token is None or otel.annotate is not None:
            return self.enforce(decision)
        return decision

    async def decision_async(self, max_wait: float | None = None) -> Decision:
        """As `decision`; the event loop continues meanwhile."""
        decision = await self.provider.decision_async(max_wait)
        if decision.token is None or otel.annotate is not None:
            return self.enforce(decision)
        return decision

    def enforce(self, decision: Decision) -> Decision:
        """Annotate the current span; raise if a token is required and missing."""
        if otel.annotate is not None:
            otel.annotate(decision.outcome.value)
        if decision.token is None and self._required:
            raise TokenUnavailableError(
                f"this call requires a token and there is none: {decision.reason}",
                outcome=decision.outcome,
            )
        return decision
