"""One decision at a time, leased to all callers until it is due to be looked at again."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors._flags.evaluation import LOOP_WAIT, event_loop_runs_here
from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._telemetry.counters import look_for_telemetry
from manor_mcp_interceptors.outcomes import Decision, TokenStatus

from .configuration import Explanation, SettingsSnapshot
from .decide import UNDECIDED, Flight, Said, announce, decide, describe, refusal, to_say
from .lease import Lease

FOLLOW_SECONDS: Final = 5.0
"""How long a thread without a token waits for the thread that is deciding."""


class LeasedProvider(Lease):
    """Decides which token a call carries, mints it and caches it. Safe from any thread."""

    __slots__ = ()

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
            answer = self._setup.flags.ask(view.question)
            patience = LOOP_WAIT if event_loop_runs_here() else FOLLOW_SECONDS
            return self._renew(view, answer, generation, patience)
        finally:
            self._renewing = False

    async def _decide_async(self) -> Decision:
        try:
            generation = self._generation
            view = self._look()
            answer = await self._setup.flags.ask_async(view.question)
            leader = self._flight if answer.enabled else None
            if leader is not None and event_loop_runs_here() and not self._goes_on():
                await leader.wait_async(FOLLOW_SECONDS)
            return self._renew(view, answer, generation, LOOP_WAIT)
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
        view = self._setup.read_settings(self._audience)
        expires_in = self._cache.expires_in(decision.token)
        return describe(self._setup, view, decision, self._answer, expires_in)

    def explain(self) -> Explanation:
        """Return what a decision is made from, as of a decision made now; for the doctor."""
        self.decision()
        setup = self._setup
        return Explanation(
            given=setup.given[0],
            snapshot=setup.read_settings(self._audience),
            answer=self._answer,
            gate=setup.flags.gate_name,
            keys=setup.keys,
            audience=self._audience,
        )

    def _look(self) -> SettingsSnapshot:
        """Read the settings; leased too where the gate is asked at every call."""
        now = self._clock.monotonic()
        view = self._view
        if view is None or now >= self._view_until:
            view = self._setup.read_settings(self._audience)
            self._recheck = view.settings.recheck_seconds
            if self._setup.flags.per_call:
                self._view, self._view_until = view, now + self._recheck
        return view

    def _renew(
        self, view: SettingsSnapshot, answer: FlagAnswer, generation: int, patience: float
    ) -> Decision:
        """Decide anew, in one thread; the others follow it, with so many seconds' patience."""
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
            return self._follow(leader, view, answer, patience)
        try:
            if per_call:
                view = self._setup.read_settings(
                    self._audience
                )  # a leased one may be a recheck old
            decision, problem = decide(self._setup, self._cache, view, answer)
            news = self._publish(decision, problem, answer, generation)
        finally:
            self._flight = None
            mine.land()
        if news is not None:  # nobody waits, and no lock is held: a log handler may do anything
            announce(decision, news)
        return decision

    def _follow(
        self, leader: Flight, view: SettingsSnapshot, answer: FlagAnswer, patience: float
    ) -> Decision:
        """Go on with the last decision while its token lives; wait only where there is none."""
        if not answer.enabled:
            return self._counted(refusal(view, answer))
        if not self._goes_on():
            leader.wait(patience)
        latest = self._latest
        expired = latest.token is not None and self._cache.expires_in(latest.token) is None
        return UNDECIDED if expired else latest

    def _counted(self, decision: Decision) -> Decision:
        self.counters.count("decisions", decision.outcome.value)
        look_for_telemetry()
        return decision

    def _publish(
        self, decision: Decision, problem: str | None, answer: FlagAnswer, generation: int
    ) -> Said | None:
        """Have all calls see `decision`; return what is new of it to the log."""
        self._counted(decision)
        news = to_say(decision, problem)
        with self._lock:
            self._answer = answer
            self._latest = decision = replace(decision, valid_from=self._clock.monotonic())
            self._decision = UNDECIDED if self._setup.flags.per_call else decision
            if self._generation != generation:  # looked at last: nothing falls in between
                self._latest = self._decision = self._ended(decision)
            said, self._said = self._said, news  # before a log handler can make a call
        return None if news == said else news
