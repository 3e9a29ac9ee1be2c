"""One decision at a time, leased to all callers until it is due to be looked at again."""

from __future__ import annotations

import logging
from typing import Final

from ._bearer import HEADER_NAME
from ._counters import TOTALS, Counters, look_for_telemetry
from ._dataclass import replace
from ._decide import NEVER, UNDECIDED, Flight, announce, decide, describe, refusal
from ._setup import Setup, View
from ._token_cache import TokenCache
from .flags import FlagAnswer
from .outcomes import Decision, Outcome, TokenStatus

_logger = logging.getLogger("manor_mcp_interceptors")

FOLLOW_SECONDS: Final = 5.0
"""How long a thread without a token waits for the thread that is deciding."""
GOING_ON_SECONDS: Final = 1.0
"""How long after its lease a decision still serves while one thread renews it."""


class LeasedProvider:
    """Decides which token a call carries, mints it and caches it. Safe from any thread."""

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

    def __init__(self, setup: Setup, audience: str | None) -> None:
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
        self._view: View | None = None  # kept only where the gate is per call
        self._view_until = NEVER
        self._said: tuple[Outcome, str | None] | None = None
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

    def decision(self) -> Decision:
        """Return the decision for a call made now. Never raises."""
        return self.leased() or self._in_renewal() or self._decide()

    async def decision_async(self) -> Decision:
        """As `decision`; where the flag's backend is slow, the wait yields to the event loop."""
        return self.leased() or self._in_renewal() or await self._decide_async()

    def _decide(self) -> Decision:
        try:
            generation = self._generation
            view = self._look()
            return self._renew(view, self._setup.flags.ask(view.question), generation)
        finally:
            self._renewing = False

    async def _decide_async(self) -> Decision:
        try:
            generation = self._generation
            view = self._look()
            answer = await self._setup.flags.ask_async(view.question)
            return self._renew(view, answer, generation)
        finally:
            self._renewing = False

    def token(self) -> str | None:
        """Return the token for a call made now, or None: send the call without one."""
        # The body of `leased`, for one call less on the hottest path.
        decision = self._decision
        if decision.valid_from <= self._clock.monotonic() < decision.valid_until:
            return decision.token
        return self.decision().token

    async def token_async(self) -> str | None:
        """As `token`; where the flag's backend is slow, the wait yields to the event loop."""
        return (await self.decision_async()).token

    def headers(self) -> dict[str, str]:
        """Return a new dict with the ``Authorization`` header; empty when there is no token."""
        value = self.decision().authorization
        return {} if value is None else {HEADER_NAME: value}

    def status(self) -> TokenStatus:
        """Return what a call made now would carry, and why; safe to print."""
        decision = self.decision()
        view = self._setup.look(self._audience)
        expires_in = self._cache.expires_in(decision.token)
        return describe(self._setup, view, decision, self._answer, expires_in)

    def invalidate(self, token: str) -> None:
        """Say that a server refused `token`.

        Ends the lease if that token is still the current one, so that flag, secret and settings
        are looked at again. A new token is minted at once only where the refused one is older
        than the margin or the secret has changed: no server can make a client mint at each call.
        """
        with self._lock:
            if self._latest.token != token:
                return
            is_news = not self._cache.is_rejected(token)
            self._cache.reject(token)
            self._end_lease()
        self.counters.count("refreshes")
        if is_news:  # no lock is held: a log handler may do anything
            audience = self._setup.look(self._audience).settings.audience
            hint = "`manor-mcp doctor --url URL` finds out why"
            _logger.warning("MCP auth: a server refused the token for %s; %s", audience, hint)

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

    def _look(self) -> View:
        """Read the settings; leased too where the gate is asked at every call."""
        now = self._clock.monotonic()
        view = self._view
        if view is None or now >= self._view_until:
            view = self._setup.look(self._audience)
            self._recheck = view.settings.recheck_seconds
            if self._setup.flags.per_call:
                self._view, self._view_until = view, now + self._recheck
        return view

    def _renew(self, view: View, answer: FlagAnswer, generation: int) -> Decision:
        """Decide anew, in one thread; the others follow it."""
        per_call = self._setup.flags.per_call
        if per_call:
            self._answer = answer
            if not answer.enabled:
                return self._counted(refusal(view, answer))  # for this caller alone: no lease
        with self._lock:
            # Another thread may have decided while this one asked.
            latest = self._latest
            if latest.valid_from <= self._clock.monotonic() < latest.valid_until:
                return latest
            leader = self._flight
            if leader is None:
                self._flight = mine = Flight()
        if leader is not None:
            return self._follow(leader, view, answer)
        try:
            if per_call:
                view = self._setup.look(self._audience)  # a leased one may be a recheck old
            decision, problem = decide(self._setup, self._cache, view, answer)
            self._publish(decision, problem, answer, generation)
        finally:
            self._flight = None
            mine.land()
        return decision

    def _follow(self, leader: Flight, view: View, answer: FlagAnswer) -> Decision:
        """Go on with the last decision while its token lives; wait only where there is none."""
        if not answer.enabled:
            return self._counted(refusal(view, answer))
        latest = self._latest
        if latest.token is None or not self._is_good(latest.token):
            leader.wait(FOLLOW_SECONDS)
            latest = self._latest
        expired = latest.token is not None and self._cache.expires_in(latest.token) is None
        return UNDECIDED if expired else latest

    def _counted(self, decision: Decision) -> Decision:
        self.counters.count("decisions", decision.outcome.value)
        look_for_telemetry()
        return decision

    def _publish(
        self, decision: Decision, problem: str | None, answer: FlagAnswer, generation: int
    ) -> None:
        self._counted(decision)
        with self._lock:
            decision = replace(decision, valid_from=self._clock.monotonic())
            if self._generation != generation:
                decision = self._ended(decision)
            self._answer = answer
            self._latest = decision
            self._decision = UNDECIDED if self._setup.flags.per_call else decision
        self._said = announce(decision, problem, self._said)
