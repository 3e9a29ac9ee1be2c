"""Hold one token: tell whether it is fresh, and mint the next one when it is not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from manor_mcp_interceptors._keys.keys import SigningKey
from manor_mcp_interceptors._keys.tokens import clock_skew, effective_margin, mint
from manor_mcp_interceptors._telemetry.counters import Counters
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import import_problem
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings


@dataclass(frozen=True, slots=True)
class Minted:
    """A token, what it was made from, and when, by both clocks."""

    token: str = field(repr=False)
    expires_at: int
    inputs: tuple[object, ...] = field(repr=False)
    wall: float
    monotonic: float

    def remaining(self, clock: Clock, margin: int) -> float:
        """Return the seconds until the token is stale by the stricter of both clocks."""
        wall = clock.time()
        if wall < self.wall:  # set back since: what the token's own times mean is unknown
            return 0.0
        lifetime = self.expires_at - margin - self.wall
        elapsed = max(wall - self.wall, clock.monotonic() - self.monotonic)
        return lifetime - elapsed


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a look at the cache came to."""

    token: str | None = field(repr=False)
    good_for: float = 0.0
    """Seconds until the cache should be looked at again."""
    outcome: Outcome = Outcome.OK
    problem: str | None = None
    """Why there is no token, or why it is not a new one."""


class TokenCache:
    """One thread at a time may `renew`; the rest may be called from any."""

    __slots__ = ("_clock", "_counters", "_margin", "_minted", "_rejected")

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._minted: Minted | None = None
        self._rejected: str | None = None
        self._margin = 0

    def renew(self, settings: Settings, key: SigningKey) -> Renewal:
        """Return the cached token while it is fresh and made from these inputs, else a new one.

        A failure to sign leaves a token that has not expired in use.
        """
        minted, inputs = self._minted, _inputs(settings, key)
        self._margin = settings.margin_seconds
        if minted is not None and minted.inputs != inputs:
            minted = None
        if minted is not None and not self.is_spent(minted.token):
            left = minted.remaining(self._clock, effective_margin(settings))
            if left > 0:
                return Renewal(minted.token, left)
        try:
            self._minted = fresh = self._mint(settings, key, inputs)
        except Exception as error:
            return self._failed(error, minted)
        self._counters.count("mints")
        log(logging.DEBUG, "MCP auth minted a token for %s", settings.audience)
        return Renewal(fresh.token, fresh.remaining(self._clock, effective_margin(settings)))

    def _mint(self, settings: Settings, key: SigningKey, inputs: tuple[object, ...]) -> Minted:
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        token = mint(settings, key, wall)
        return Minted(token.value, token.expires_at, inputs, wall, monotonic)

    def _failed(self, error: Exception, minted: Minted | None) -> Renewal:
        # The type alone: an error out of a signer may hold what it was given to sign with.
        outcome, problem = Outcome.SIGNING_FAILED, f"signing raised ({type(error).__name__})"
        if isinstance(error, ImportError):
            outcome, problem = Outcome.PYJWT_MISSING, import_problem(error)
        left = minted.remaining(self._clock, 0) if minted is not None else 0.0
        if minted is None or left <= 0:
            return Renewal(None, 0.0, outcome, problem)
        return Renewal(minted.token, left, Outcome.OK, f"{problem}; the unexpired token goes on")

    def is_outdated(self, settings: Settings, key: SigningKey) -> bool:
        """Return whether the token held was made from other settings or another secret."""
        return self._minted is not None and self._minted.inputs != _inputs(settings, key)

    def is_spent(self, value: str) -> bool:
        """Return whether a server refused the token held, and a new one can differ and be afforded.

        Once per margin, and never within a second: `iat` is in whole seconds, so the new token
        would be the old one.
        """
        minted = self._minted
        if minted is None or minted.token != value or value != self._rejected:
            return False
        return self._clock.monotonic() - minted.monotonic >= max(self._margin, 1)

    def reject(self, value: str) -> None:
        """Remember that a server refused the token `value`."""
        self._rejected = value

    def is_rejected(self, value: str | None) -> bool:
        """Return whether a server refused `value`."""
        return value is not None and value == self._rejected

    def expires_in(self, value: str | None) -> float | None:
        """Return the seconds until the `exp` of the token `value`.

        None where it has expired, and where it is not the one held: another may have taken its
        place a moment ago, and says nothing of it.
        """
        minted = self._minted
        if minted is None or minted.token != value:
            return None
        left = minted.remaining(self._clock, 0)
        return left if left > 0 else None


def _inputs(settings: Settings, key: SigningKey) -> tuple[object, ...]:
    return (
        settings.issuer,
        settings.audience,
        settings.subject,
        settings.ttl_seconds,
        clock_skew(settings),
        key,  # in its box: its `repr` hides the secret
    )
