"""What every adapter has: the provider that decides for it, and whether a token is required."""

from __future__ import annotations

from manor_mcp_interceptors._decision.configuration import check_audience
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Decision
from manor_mcp_interceptors.provider import MCPTokenProvider, _instances


class TokenSource:
    """Decides for the calls of one adapter."""

    __slots__ = ("_audience", "_provider", "_required")

    def __init__(
        self, provider: MCPTokenProvider | None, audience: str | None, *, required: bool
    ) -> None:
        """Bind the provider; `configure` changes what it decides from, never which it is.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        if audience is not None:
            check_audience(audience)
            provider = provider and provider.for_audience(audience)
        self._provider = provider
        self._audience = audience
        self._required = required

    @property
    def provider(self) -> MCPTokenProvider:
        """The provider that decides."""
        made = self._provider or _instances.get(self._audience)
        return made or MCPTokenProvider.get_instance(self._audience)

    def decision(self) -> Decision:
        """Return the decision for a call made now.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        decision = self.provider.decision()
        if decision.token is None or otel.annotate is not None:
            return self.enforce(decision)
        return decision

    async def decision_async(self) -> Decision:
        """As `decision`; while a flag is slow, the event loop goes on."""
        decision = await self.provider.decision_async()
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
