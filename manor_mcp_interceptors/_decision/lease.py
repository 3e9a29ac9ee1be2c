"""What a provider has decided, for how long all calls may go by it, and what ends that early."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._telemetry.counters import TOTALS, Counters
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Decision

from .configuration import Configuration, SettingsSnapshot
from .decide import NEVER, UNDECIDED, Flight, Said
from .token_cache import TokenCache

GOING_ON_SECONDS: Final = 1.0
"""How long after its lease a decision still serves while one thread renews it."""


class Lease:
    """The latest decision and its end. Safe from any thread."""

    __slots__ = (
        "__weakref__",
        "_answer",
        "_audience",
        "_cache",
        "_clock",
        "_decision",
        "_flight",
        "_generation",
        "_latest",
        "_lock",
        "_recheck",
        "_renewing",
        "_said",
        "_setup",
        "_view",
        "_view_until",
        "counters",
    )

    def __init__(self, setup: Configuration, audience: str | None) -> None:
        self._setup = setup
        self._audience = audience
        self._clock = setup.clock
        self.counters: Counters = Counters(TOTALS, cleared_by_owner=True)
        self._cache = TokenCache(setup.clock, self.counters)
        self._answer = FlagAnswer(enabled=False, source="not asked yet")
        self._latest = UNDECIDED
        self._decision = UNDECIDED  # the latest one; stays ended where the gate is per call
        self._generation = 0
        self._recheck = 0.0
        self._view: SettingsSnapshot | None = None  # kept only where the gate is per call
        self._view_until = NEVER
        self._said: Said | None = None
        self.after_fork()
        setup.register(self)

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = self._setup.lock
        self._flight: Flight | None = None
        self._renewing = False
        self.counters.clear()

    def leased(self) -> Decision | None:
        """Return the decision whose lease still runs; None where it is due to be made anew."""
        decision = self._decision
        if decision.valid_from <= self._clock.monotonic() < decision.valid_until:
            return decision
        return None

    def invalidate(self, token: str) -> None:
        """Say that a server refused `token`.

        Ends the lease if that token is still the current one, so that flag, secret and settings
        are looked at again. A new token is minted at once only where the refused one is older
        than the margin or the secret has changed: no server can make a client mint at each call.
        Nor ask for the flag at each: until then, only the secret is looked at again.
        """
        with self._lock:
            if self._latest.token != token:
                return
            is_news = not self._cache.is_rejected(token)
            self._cache.reject(token)
            is_due = is_news or self._cache.is_spent(token)
            if is_due:
                self._end_lease()
        if not is_due:
            if not self._is_outdated():  # no lock is held: a secret may be in a file
                return
            self.end_lease()
        self.counters.count("refreshes")
        if is_news:  # no lock is held: a log handler may do anything
            audience = self._setup.read_settings(self._audience).settings.audience
            hint = "`manor-mcp doctor --url URL` finds out why"
            message = "MCP auth: a server refused the token for %s; %s"
            log(logging.WARNING, message, audience, hint)

    def _is_outdated(self) -> bool:
        """Return whether settings and secret are others than those the token was made from."""
        view = self._setup.read_settings(self._audience)
        if view.error is not None:
            return False  # the recheck says what is wrong
        try:
            key = self._setup.keys.signing_key(view.settings)
        except (SettingsError, ImportError):
            return False
        return self._cache.is_outdated(view.settings, key)

    def end_lease(self) -> None:
        """Have the next call look at flag, secret and settings again."""
        with self._lock:
            self._end_lease()

    def _end_lease(self) -> None:
        self._generation += 1  # a decision on its way was made from what was true before
        self._view_until = NEVER
        self._latest = self._ended(self._latest)
        self._decision = self._latest

    def _ended(self, decision: Decision) -> Decision:
        return replace(decision, valid_until=min(decision.valid_until, self._clock.monotonic()))

    def _in_renewal(self) -> Decision | None:
        """Return the last decision where another thread renews it; None: this one is to do so."""
        if self._setup.flags.per_call:
            return None
        with self._lock:
            if self._renewing and self._serves_on(self._latest):
                return self._latest
            self._renewing = True  # two at a time do no harm: a mint has an election of its own
            return None

    def _serves_on(self, decision: Decision) -> bool:
        # Long after its lease, flag and secret may be others. A recheck of 0 allows no wait at all.
        since = self._clock.monotonic() - decision.valid_until
        if since >= min(self._recheck, GOING_ON_SECONDS):
            return False
        return decision.token is None or self._is_good(decision.token)

    def _is_good(self, token: str) -> bool:
        """Return whether no server has refused `token`, and it has not expired."""
        return not self._cache.is_rejected(token) and self._cache.expires_in(token) is not None

    def _goes_on(self) -> bool:
        """Return whether there is a token to go on with while another thread decides."""
        token = self._latest.token
        return token is not None and self._is_good(token)
