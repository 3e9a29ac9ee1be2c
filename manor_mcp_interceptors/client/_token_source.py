"""What every adapter holds: where its decisions come from, and whether a call may do without."""

from __future__ import annotations

from manor_mcp_interceptors._decision.configuration import check_audience
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Decision
from manor_mcp_interceptors.provider import MCPTokenProvider, _instances


class TokenSource:
    """Finds the provider at each call, so that `configure` reaches adapters that exist already."""

    __slots__ = ("_audience", "_provider", "_required")

    def __init__(
        self, provider: MCPTokenProvider | None, audience: str | None, *, required: bool
    ) -> None:
        if audience is not None:
            check_audience(audience)  # here, where the mistake is, and not at each call
            provider = provider and provider.for_audience(audience)
        self._provider = provider
        self._audience = audience
        self._required = required

    @property
    def provider(self) -> MCPTokenProvider:
        """The provider that decides for a call made now."""
        made = self._provider or _instances.get(self._audience)
        return made or MCPTokenProvider.get_instance(self._audience)

    def leased(self) -> Decision | None:
        """Return the decision for a call made now while its lease runs; None: ask `provider`."""
        # The body of `Lease.leased`: between two calls of a network a function has left the
        # processor's caches, and costs five times its usual.
        provider = self._provider or _instances.get(self._audience)
        if provider is None:
            return None
        latest = provider._decision
        if latest.valid_from <= provider._clock.monotonic() < latest.valid_until:
            return latest
        return None

    def decision(self) -> Decision:
        """Return the decision for a call made now.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        return self.checked(self.provider.decision())

    async def decision_async(self) -> Decision:
        """As `decision`, without holding up the event loop where a flag's backend is slow."""
        return self.checked(self.leased() or await self.provider.decision_async())

    def checked(self, decision: Decision) -> Decision:
        """Return `decision` once the caller's span knows of it, and if the call may go so."""
        if otel.annotate is not None:
            otel.annotate(decision.outcome.value)
        if decision.token is None and self._required:
            raise TokenUnavailableError(
                f"this call requires a token and there is none: {decision.reason}",
                outcome=decision.outcome,
            )
        return decision
