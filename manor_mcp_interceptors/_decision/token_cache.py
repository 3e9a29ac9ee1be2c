"""Hold one token: whether it is fresh, and what replaces it if it is not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from manor_mcp_interceptors._bearer import format_bearer
from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.keys import Credential, SigningKey
from manor_mcp_interceptors._keys.tokens import effective_margin, mint
from manor_mcp_interceptors._telemetry.counters import Counters
from manor_mcp_interceptors.errors import import_problem
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings


@dataclass(frozen=True, slots=True)
class CachedToken:
    """A token, what it came from, and since when it is used, by the wall and monotonic clocks."""

    token: str = field(repr=False)
    authorization: str = field(repr=False)
    """The ready header value."""
    expires_at: float
    """Unix time, seconds; infinite if the token does not say."""
    margin: int
    """Seconds before `expires_at` from which the token is stale."""
    settings: Settings
    credential: Credential
    """What it was made from."""
    since_wall: float
    since_monotonic: float

    def remaining(self, clock: Clock) -> float:
        """Return the seconds until `expires_at`, by the stricter of both clocks.

        The monotonic clock may stop while the process is suspended; the wall clock may be set. So
        the larger elapsed time counts.
        """
        wall = clock.time()
        if wall < self.since_wall and not isinstance(self.credential, GivenToken):
            return 0.0  # set back since: what the token's own times mean is unknown
        elapsed = max(wall - self.since_wall, clock.monotonic() - self.since_monotonic)
        return self.expires_at - self.since_wall - elapsed


@dataclass(frozen=True, slots=True)
class TokenInUse:
    """The given token that calls carry now, and whether a new one is to be asked for."""

    given: GivenToken | None
    """None if there is none, or if the token was signed here."""
    is_due: bool = False
    is_refused: bool = False
    """Whether it is due because a server has refused it."""


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

    __slots__ = ("_cached", "_clock", "_counters", "_rejected", "_replaced_at")

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._cached: CachedToken | None = None
        self._rejected: str | None = None
        self._replaced_at = -math.inf
        """The monotonic time at which a token was last signed, or asked for after a refusal."""

    def renew(self, settings: Settings, credential: Credential) -> CacheResult:
        """Return the cached token if it is fresh and made from these inputs, else a new one.

        If signing fails, an unexpired token made from the same inputs stays in use.
        """
        cached = None if self.inputs_changed(settings, credential) else self._cached
        if isinstance(credential, GivenToken):
            return self._take(settings, credential, cached)
        if cached is not None and not self.may_replace(cached.token):
            fresh_for = cached.remaining(self._clock) - cached.margin
            if fresh_for > 0:
                return CacheResult(cached, self._clock.time() + fresh_for)
        try:
            self._cached = new = self._mint(settings, credential)
        except Exception as error:
            return self._failed(error, cached)
        self._replaced_at = new.since_monotonic
        self._counters.count("mints")
        return CacheResult(new, new.expires_at - new.margin)

    def _take(
        self, settings: Settings, given: GivenToken, cached: CachedToken | None
    ) -> CacheResult:
        """Return the given token if it has not expired: fresh until its margin, then until its end.

        A token keeps the times since when it is used. So it also expires by the monotonic clock,
        whatever the wall clock is set to.
        """
        if self._cached is not None and self.may_replace(self._cached.token):
            self._replaced_at = self._clock.monotonic()  # the refused one was asked for again
        token = cached or self._wrap(settings, given)
        left = token.remaining(self._clock)
        if left <= 0:
            return CacheResult(None, 0.0, Outcome.INVALID_CONFIG, given.describe_expiry(-left))
        if cached is None:
            self._cached = token
            self._counters.count("mints")
        fresh_for = left - token.margin if left > token.margin else left
        return CacheResult(token, self._clock.time() + fresh_for)

    def _mint(self, settings: Settings, key: SigningKey) -> CachedToken:
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        token = mint(settings, key, wall)
        return CachedToken(
            token=token.value,
            authorization=format_bearer(token.value),
            expires_at=token.expires_at,
            margin=effective_margin(settings),
            settings=settings,
            credential=key,
            since_wall=wall,
            since_monotonic=monotonic,
        )

    def _wrap(self, settings: Settings, given: GivenToken) -> CachedToken:
        return CachedToken(
            token=given.value,
            authorization=format_bearer(given.value),
            expires_at=math.inf if given.expires_at is None else given.expires_at,
            margin=settings.margin_seconds,
            settings=settings,
            credential=given,
            since_wall=self._clock.time(),
            since_monotonic=self._clock.monotonic(),
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

    def inputs_changed(self, settings: Settings, credential: Credential) -> bool:
        """Return whether the cached token was made from other settings or another secret."""
        cached = self._cached
        if cached is None:
            return False
        return _inputs(cached.settings, cached.credential) != _inputs(settings, credential)

    def given(self, audience: str) -> GivenToken | None:
        """Return the given token in use; None if there is none for `audience`."""
        cached = self._cached
        if cached is None or cached.settings.audience != audience:
            return None
        return cached.credential if isinstance(cached.credential, GivenToken) else None

    def in_use(self, audience: str) -> TokenInUse:
        """Return the given token in use, and whether a new one is due.

        It is due within the margin, always for a token without an `exp`, and once per margin
        after a server has refused it.
        """
        cached, given = self._cached, self.given(audience)
        if cached is None or given is None:
            return TokenInUse(None, is_due=True)
        if self.may_replace(cached.token):
            return TokenInUse(given, is_due=True, is_refused=True)
        is_fresh = cached.margin < cached.remaining(self._clock) < math.inf
        return TokenInUse(given, is_due=not is_fresh)

    def may_replace(self, value: str) -> bool:
        """Return whether a server refused the cached token, and a new one can differ from it.

        Once per margin, and never within a second: `iat` is in whole seconds, so the new token
        would be the old one.
        """
        cached = self._cached
        if cached is None or cached.token != value or value != self._rejected:
            return False
        return self._clock.monotonic() - self._replaced_at >= max(cached.margin, 1)

    def reject(self, value: str) -> bool:
        """Remember that a server refused the token `value`; return whether that was not known."""
        is_new = value != self._rejected
        self._rejected = value
        return is_new

    def is_usable(self, value: str | None) -> bool:
        """Return whether `value` is a token that no server has refused and that has not expired."""
        return value is not None and value != self._rejected and self._remaining(value) > 0

    def expires_in(self, value: str | None) -> float | None:
        """Return the seconds until the `exp` of the token `value`.

        None if it has expired or does not say, or if it is not the cached one: another thread may
        have replaced it a moment ago.
        """
        left = self._remaining(value)
        return left if 0 < left < math.inf else None

    def _remaining(self, value: str | None) -> float:
        cached = self._cached
        if cached is None or cached.token != value:
            return 0.0
        return cached.remaining(self._clock)


def _inputs(settings: Settings, credential: Credential) -> tuple[object, ...]:
    """Return all that a token is made from: if one changes, the next token is a new one."""
    return (
        settings.issuer,
        settings.audience,
        settings.subject,
        settings.scope,
        settings.ttl_seconds,
        settings.margin_seconds,
        settings.clock_skew_seconds,
        credential,  # the object, whose `repr` hides the secret
    )
