"""Hold one token: whether it is fresh, and what replaces it if it is not."""

from __future__ import annotations

from dataclasses import dataclass, field

from manor_mcp_interceptors._bearer import format_bearer
from manor_mcp_interceptors._keys.keys import SigningKey
from manor_mcp_interceptors._keys.tokens import effective_margin, mint
from manor_mcp_interceptors._telemetry.counters import Counters
from manor_mcp_interceptors.errors import import_problem
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings


@dataclass(frozen=True, slots=True)
class CachedToken:
    """A token, the inputs that it was made from, and when, by the wall and the monotonic clock."""

    token: str = field(repr=False)
    authorization: str = field(repr=False)
    """The ready header value."""
    expires_at: int
    """Unix time, seconds."""
    margin: int
    """Seconds before `expires_at` from which the token is stale."""
    inputs: tuple[object, ...] = field(repr=False)
    minted_wall: float
    minted_monotonic: float

    def remaining(self, clock: Clock) -> float:
        """Return the seconds until `expires_at`, by the stricter of both clocks.

        The monotonic clock may stop while the process is suspended; the wall clock may be set. So
        the larger elapsed time counts.
        """
        wall = clock.time()
        if wall < self.minted_wall:  # set back since: what the token's own times mean is unknown
            return 0.0
        elapsed = max(wall - self.minted_wall, clock.monotonic() - self.minted_monotonic)
        return self.expires_at - self.minted_wall - elapsed


@dataclass(frozen=True, slots=True)
class CacheResult:
    """The token to use, how long it stays fresh, and why there is none."""

    cached: CachedToken | None
    fresh_until: float = 0.0
    """Unix time, seconds, at which the cache must be asked again."""
    outcome: Outcome = Outcome.OK
    problem: str | None = None
    """Why there is no token, or why it is not a new one."""


class TokenCache:
    """One thread at a time may call `renew`; the rest is safe from any thread."""

    __slots__ = ("_cached", "_clock", "_counters", "_rejected")

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._cached: CachedToken | None = None
        self._rejected: str | None = None

    def renew(self, settings: Settings, key: SigningKey) -> CacheResult:
        """Return the cached token if it is fresh and made from these inputs, else a new one.

        If signing fails, an unexpired token made from the same inputs stays in use.
        """
        cached = None if self.inputs_changed(settings, key) else self._cached
        if cached is not None and not self.may_replace(cached.token):
            fresh_for = cached.remaining(self._clock) - cached.margin
            if fresh_for > 0:
                return CacheResult(cached, self._clock.time() + fresh_for)
        try:
            self._cached = new = self._mint(settings, key)
        except Exception as error:
            return self._failed(error, cached)
        self._counters.count("mints")
        return CacheResult(new, new.expires_at - new.margin)

    def _mint(self, settings: Settings, key: SigningKey) -> CachedToken:
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        token = mint(settings, key, wall)
        return CachedToken(
            token.value,
            format_bearer(token.value),
            token.expires_at,
            effective_margin(settings),
            _inputs(settings, key),
            wall,
            monotonic,
        )

    def _failed(self, error: Exception, cached: CachedToken | None) -> CacheResult:
        # The type alone: an error out of a signer may hold what it was given to sign with.
        outcome, problem = Outcome.SIGNING_FAILED, f"signing raised ({type(error).__name__})"
        if isinstance(error, ImportError):
            outcome, problem = Outcome.PYJWT_MISSING, import_problem(error)
        left = 0.0 if cached is None else cached.remaining(self._clock)
        if cached is None or left <= 0:
            return CacheResult(None, 0.0, outcome, problem)
        problem = f"{problem}; the unexpired token stays in use"
        return CacheResult(cached, self._clock.time() + left, Outcome.OK, problem)

    def inputs_changed(self, settings: Settings, key: SigningKey) -> bool:
        """Return whether the cached token was made from other settings or another secret."""
        return self._cached is not None and self._cached.inputs != _inputs(settings, key)

    def may_replace(self, value: str) -> bool:
        """Return whether a server refused the cached token, and a new one can differ from it.

        Once per margin, and never within a second: `iat` is in whole seconds, so the new token
        would be the old one.
        """
        cached = self._cached
        if cached is None or cached.token != value or value != self._rejected:
            return False
        return self._clock.monotonic() - cached.minted_monotonic >= max(cached.margin, 1)

    def reject(self, value: str) -> bool:
        """Remember that a server refused the token `value`; return whether that was not known."""
        is_new = value != self._rejected
        self._rejected = value
        return is_new

    def is_usable(self, value: str | None) -> bool:
        """Return whether `value` is a token that no server has refused and that has not expired."""
        return value is not None and value != self._rejected and self.expires_in(value) is not None

    def expires_in(self, value: str | None) -> float | None:
        """Return the seconds until the `exp` of the token `value`.

        None if it has expired, or if it is not the cached one: another thread may have replaced
        it a moment ago.
        """
        cached = self._cached
        if cached is None or cached.token != value:
            return None
        left = cached.remaining(self._clock)
        return left if left > 0 else None


def _inputs(settings: Settings, key: SigningKey) -> tuple[object, ...]:
    """Return all that a token is made from: if one changes, the next token is a new one."""
    return (
        settings.issuer,
        settings.audience,
        settings.subject,
        settings.scope,
        settings.ttl_seconds,
        settings.margin_seconds,
        settings.clock_skew_seconds,
        key,  # the object, whose `repr` hides the secret
    )
