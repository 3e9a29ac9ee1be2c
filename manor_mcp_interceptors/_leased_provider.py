"""One decision at a time, leased to all callers until it is due to be looked at again."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Final

from ._bearer import HEADER_NAME, METADATA_KEY, format_bearer
from ._setup import Setup, View
from ._token_cache import TokenCache
from .errors import SettingsError
from .flags import FlagAnswer
from .outcomes import Decision, Outcome, TokenStatus

_logger = logging.getLogger("manor_mcp_interceptors")

FOLLOW_SECONDS: Final = 5.0
"""How long a thread without a token waits for the thread that is deciding."""

_ENDED: Final = float("-inf")
_UNDECIDED: Final = Decision(
    None, None, None, Outcome.SIGNING_FAILED, "no decision was reached in time", _ENDED
)


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
        "_said",
        "_setup",
    )

    def __init__(self, setup: Setup, audience: str | None) -> None:
        self._setup = setup
        self._audience = audience
        self._clock = setup.clock
        self._cache = TokenCache(setup.clock)
        self._answer = FlagAnswer(enabled=False, source="not asked yet")
        self._latest = _UNDECIDED
        self._decision = _UNDECIDED  # the latest one; stays ended where the gate is per call
        self._generation = 0
        self._said: tuple[Outcome, str | None] | None = None
        self.after_fork()
        setup.register(self)

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = threading.Lock()
        self._flight: threading.Event | None = None

    def decision(self) -> Decision:
        """Return the decision for a call made now. Never raises."""
        decision = self._decision
        if self._clock.monotonic() < decision.valid_until:
            return decision
        generation = self._generation
        view = self._setup.look(self._audience)
        return self._renew(view, self._setup.flags.ask(view.question), generation)

    async def decision_async(self) -> Decision:
        """As `decision`; where the flag's backend is slow, the wait yields to the event loop."""
        decision = self._decision
        if self._clock.monotonic() < decision.valid_until:
            return decision
        generation = self._generation
        view = self._setup.look(self._audience)
        return self._renew(view, await self._setup.flags.ask_async(view.question), generation)

    def token(self) -> str | None:
        """Return the token for a call made now, or None: send the call without one."""
        # The body of `decision`, for one call less on the hottest path.
        decision = self._decision
        if self._clock.monotonic() < decision.valid_until:
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
        known = view.settings if view.error is None else None
        try:
            source = None if known is None else self._setup.keys.signing_key(known).source
        except (SettingsError, ImportError):
            source = None
        return TokenStatus(
            outcome=decision.outcome,
            reason=decision.reason,
            flag=view.question.key,
            flag_enabled=self._answer.enabled,
            flag_source=self._answer.source,
            issuer=known.issuer if known else None,
            audience=known.audience if known else None,
            subject=known.subject if known else None,
            secret_source=source,
            seconds_to_expiry=self._cache.expires_in() if decision.token is not None else None,
        )

    def invalidate(self, token: str) -> None:
        """Say that a server refused `token`.

        Ends the lease if that token is still the current one, so that flag, secret and settings
        are looked at again. A new token is minted at once only where the refused one is older
        than the margin or the secret has changed: no server can make a client mint at each call.
        """
        with self._lock:
            if self._latest.token == token:
                self._cache.reject(token)
                self._end_lease()

    def end_lease(self) -> None:
        """Have the next call look at flag, secret and settings again."""
        with self._lock:
            self._end_lease()

    def _end_lease(self) -> None:
        self._generation += 1  # a decision on its way was made from what was true before
        self._latest = replace(self._latest, valid_until=_ENDED)
        self._decision = self._latest

    def _renew(self, view: View, answer: FlagAnswer, generation: int) -> Decision:
        """Decide anew, in one thread; the others follow it."""
        per_call = self._setup.flags.backend.per_call
        if per_call and not answer.enabled:
            return _refusal(view, answer)  # for this caller alone: nothing is leased
        with self._lock:
            # Another thread may have decided while this one asked.
            if self._clock.monotonic() < self._latest.valid_until:
                return self._latest
            leader = self._flight
            if leader is None:
                self._flight = mine = threading.Event()
        if leader is not None:
            return self._follow(leader, view, answer)
        try:
            decision = self._decide(view, answer)
            self._publish(decision, answer, generation, leased=not per_call)
        finally:
            self._flight = None
            mine.set()
        return decision

    def _follow(self, leader: threading.Event, view: View, answer: FlagAnswer) -> Decision:
        """Go on with the last decision while its token lives; wait only where there is none."""
        if not answer.enabled:
            return _refusal(view, answer)
        latest = self._latest
        refused = self._cache.is_rejected(latest.token)
        if latest.token is None or refused or self._cache.expires_in() is None:
            leader.wait(FOLLOW_SECONDS)
        return self._latest

    def _publish(
        self, decision: Decision, answer: FlagAnswer, generation: int, *, leased: bool
    ) -> None:
        with self._lock:
            if self._generation != generation:
                decision = replace(decision, valid_until=_ENDED)
            self._answer = answer
            self._latest = decision
            self._decision = decision if leased else _UNDECIDED
        on = decision.outcome is Outcome.OK
        said = (decision.outcome, None if on else decision.reason)
        if said != self._said:
            self._said = said
            quiet = on or decision.outcome is Outcome.FLAG_OFF
            level = logging.INFO if quiet else logging.WARNING
            _logger.log(level, "MCP auth %s: %s", decision.outcome, decision.reason)

    def _decide(self, view: View, answer: FlagAnswer) -> Decision:
        """Answer the questions in order: flag, settings, secret, token."""
        recheck = view.settings.recheck_seconds
        valid_until = self._clock.monotonic() + recheck
        if not answer.enabled:
            return _refusal(view, answer, valid_until)
        try:
            if view.error is not None:
                raise view.error
            key = self._setup.keys.signing_key(view.settings)
        except SettingsError as error:
            return _no(error.outcome, str(error), valid_until)
        except ImportError as error:
            reason = f"PyJWT cannot be imported ({type(error).__name__}): pip install PyJWT"
            return _no(Outcome.PYJWT_MISSING, reason, valid_until)
        renewal = self._cache.renew(view.settings, key)
        if renewal.token is None:
            return _no(renewal.outcome, renewal.problem or "", valid_until)
        self._setup.remark([*view.remarks(), *key.remarks, *filter(None, [renewal.problem])])
        value = format_bearer(renewal.token.value)
        return Decision(
            renewal.token.value,
            value,
            (METADATA_KEY, value),
            Outcome.OK,
            f"flag {view.question.key} is on ({answer.source})",
            self._clock.monotonic() + min(recheck, renewal.good_for),
        )


def _refusal(view: View, answer: FlagAnswer, valid_until: float = _ENDED) -> Decision:
    if answer.invalid:
        return _no(Outcome.INVALID_CONFIG, answer.problem or "", valid_until)
    reason = f"flag {view.question.key} is off ({answer.source})"
    return _no(Outcome.FLAG_OFF, reason, valid_until)


def _no(outcome: Outcome, reason: str, valid_until: float) -> Decision:
    return Decision(None, None, None, outcome, reason, valid_until)
