"""The decision in force, for how long, and its renewal."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._telemetry.counters import (
    AUDIENCES,
    TOTALS,
    Counters,
    look_for_telemetry,
)
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._waiting import LOOP_WAIT, event_loop, reset_after_fork
from manor_mcp_interceptors.outcomes import Outcome, TokenStatus

from .configuration import (
    UNREAD,
    Configuration,
    CredentialOrProblem,
    Explanation,
    SettingsSnapshot,
    is_credential,
)
from .decide import NOT_ASKED, decide, describe, refusal
from .decision import ENDED, UNDECIDED, Decision, without_token
from .token_cache import TokenCache

WAIT_SECONDS: Final = 5.0
"""How long a call without a usable token waits for another thread that is minting one."""
GRACE_SECONDS: Final = 1.0
"""How long an expired lease may be used while another thread renews it."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    """What a renewal begins with."""

    snapshot: SettingsSnapshot
    wall: float
    """When it began, Unix time, seconds."""
    times_ended: int
    max_wait: float | None
    """Seconds to wait for flag and token source together; None is this library's own limits."""
    monotonic: float
    """When it began, by the monotonic clock, seconds."""

    def remaining(self) -> float | None:
        """Return the seconds that are left to wait; None is this library's own limit."""
        if self.max_wait is None:
            return None
        return max(0.0, self.max_wait - (time.monotonic() - self.monotonic))


class Lease:
    """The latest decision, valid for a window of wall-clock time. Safe from any thread.

    A window, so that a step of the clock in either direction ends it, and a process that was
    frozen uses nothing that ended meanwhile.
    """

    __slots__ = (
        "__weakref__",
        "_audience",
        "_cache",
        "_credential",
        "_latest",
        "_renewing",
        "_snapshot",
        "_throttle",
        "_times_ended",
        "clock",
        "configuration",
        "counters",
        "decision",
    )

    def __init__(self, configuration: Configuration, audience: str | None) -> None:
        self.configuration = configuration
        self.clock = configuration.clock
        self.counters: Counters = Counters(TOTALS)
        self.decision: Decision = UNDECIDED
        """The decision for all calls; always ended if the gate answers per call."""
        self._latest = UNDECIDED
        """Equals `decision`; with a per-call gate, the last decision with the flag on."""
        self._snapshot: SettingsSnapshot | None = None
        """The settings of the latest decision."""
        self._credential: CredentialOrProblem = None
        """What the latest decision was made from, for `explain`."""
        self._audience = audience
        self._cache = TokenCache(self.clock, self.counters)
        self._throttle = LogThrottle()
        self._times_ended = 0
        self._renewing = False
        configuration.add(self)
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Forget a renewal in progress: in a forked child, its thread is gone."""
        self._renewing = False

    @property
    def last_outcome(self) -> str:
        """The outcome of the latest decision, for a `repr`."""
        return "none yet" if self._snapshot is None else self._latest.outcome.value

    def current(self) -> Decision | None:
        """Return the decision if its lease still runs, else None."""
        decision = self.decision
        if decision.valid_from <= self.clock.time() < decision.valid_until:
            return decision
        return None

    def renew(self, max_wait: float | None = None) -> Decision:
        """Decide again, or return the last decision while another thread does.

        Args:
            max_wait: Seconds to wait at most for a slow flag or a token source; None is this
                library's own limit.
        """
        if self._in_grace_period():
            return self._latest
        try:
            self._renewing = True
            begun = self._begin(max_wait)
            answer = self.configuration.flags.ask(begun.snapshot.question, begun.remaining())
            if (decided := self._decided(begun.snapshot, answer)) is not None:
                return decided
            found: CredentialOrProblem = None
            if answer.enabled:
                found = self.configuration.credential(
                    begun.snapshot, self._cache, begun.remaining()
                )
            return self._decide(begun, answer, found)
        finally:
            self._renewing = False

    async def renew_async(self, max_wait: float | None = None) -> Decision:
        """As `renew`; the event loop continues while flag and token source are asked."""
        if self._in_grace_period():
            return self._latest
        try:
            self._renewing = True
            begun, config = self._begin(max_wait), self.configuration
            answer = await config.flags.ask_async(begun.snapshot.question, begun.remaining())
            if (decided := self._decided(begun.snapshot, answer)) is not None:
                return decided
            found: CredentialOrProblem = None
            if answer.enabled:
                found = await config.credential_async(
                    begun.snapshot, self._cache, begun.remaining()
                )
            return self._decide(begun, answer, found)
        finally:
            self._renewing = False

    def _begin(self, max_wait: float | None) -> _Renewal:
        now, times_ended = self.clock.time(), self._times_ended
        return _Renewal(self._read_settings(), now, times_ended, max_wait, time.monotonic())

    def _in_grace_period(self) -> bool:
        # Not atomic; at worst two threads evaluate the flag. Minting is serialised separately.
        latest, snapshot = self._latest, self._snapshot
        if not self._renewing or snapshot is None or self.configuration.flags.per_call:
            return False
        since = self.clock.time() - latest.valid_until
        if not 0 <= since < min(snapshot.settings.recheck_seconds, GRACE_SECONDS):
            return False
        return latest.token is None or self._cache.is_usable(latest.token)

    def _read_settings(self) -> SettingsSnapshot:
        if self._snapshot is not None and self.configuration.flags.per_call:
            now = self.clock.time()
            if self._latest.valid_from <= now < self._latest.valid_until:
                return self._snapshot  # the gate is asked at every call, the settings are not
        return self.configuration.read_settings(self._audience)

    def _decided(self, snapshot: SettingsSnapshot, answer: FlagAnswer) -> Decision | None:
        """Return the decision if nothing more is to be read for it."""
        if self.configuration.flags.per_call and not answer.enabled:
            # For this call alone: no lease.
            return self._counted(refusal(snapshot, answer), snapshot)
        return self._in_force()

    def _in_force(self) -> Decision | None:
        """Return the latest decision if its lease runs: another thread may have made it."""
        latest = self._latest
        return latest if latest.valid_from <= self.clock.time() < latest.valid_until else None

    def _decide(
        self, begun: _Renewal, answer: FlagAnswer, credential: CredentialOrProblem
    ) -> Decision:
        snapshot = begun.snapshot
        lock = self.configuration.lock  # nearly always free: then no time-out is worked out
        try:  # from here on: a signal handler may raise as soon as the lock is acquired
            if not (lock.acquire(blocking=False) or lock.acquire(timeout=self._lock_timeout())):
                return self._while_another_decides(snapshot, answer)
            # Another thread may have decided while this one read flag, settings and key.
            if (decided := self._in_force()) is not None:
                return decided
            before = self._latest
            decision = decide(snapshot, answer, credential, self._cache)
            decision = self._publish(decision, begun)
            self._credential = credential
        finally:
            try:  # noqa: SIM105 - in `suppress`, a signal handler may raise before the release
                lock.release()
            except RuntimeError:  # it was not acquired
                pass
        self._counted(decision, snapshot)
        self._log(decision, before, snapshot, credential)
        return decision

    def _lock_timeout(self) -> float:
        """Return how long a call waits for another thread that is minting, seconds."""
        if self._cache.is_usable(self._latest.token):
            return 0.0
        return LOOP_WAIT if event_loop() else WAIT_SECONDS

    def _while_another_decides(self, snapshot: SettingsSnapshot, answer: FlagAnswer) -> Decision:
        """Return the last decision while its token is usable."""
        if not answer.enabled:
            return self._counted(refusal(snapshot, answer), snapshot)
        latest = self._latest
        return latest if self._cache.is_usable(latest.token) else self._counted(UNDECIDED, snapshot)

    def _publish(self, decision: Decision, begun: _Renewal) -> Decision:
        """Return `decision` with its lease, which all calls use from now on."""
        until = min(decision.valid_until, begun.wall + begun.snapshot.settings.recheck_seconds)
        if self._times_ended != begun.times_ended:  # the inputs are older than what ended the lease
            until = ENDED
        self._latest = decision = replace(decision, valid_from=begun.wall, valid_until=until)
        self._snapshot = begun.snapshot
        self.decision = UNDECIDED if self.configuration.flags.per_call else decision
        return decision

    def _counted(self, decision: Decision, snapshot: SettingsSnapshot | None) -> Decision:
        self.count_decision(decision.outcome, snapshot)
        look_for_telemetry()
        return decision

    def _log(
        self,
        decision: Decision,
        before: Decision,
        snapshot: SettingsSnapshot,
        credential: CredentialOrProblem,
    ) -> None:
        """Log what is new. No lock is held: a log handler may do anything."""
        if is_credential(credential):
            self.configuration.warn(snapshot, credential)
        if decision.token not in (None, before.token):
            log(logging.DEBUG, "MCP auth has a new token for %s", snapshot.settings.audience)
        outcome, problem = decision.outcome, decision.problem
        state = (outcome, problem if outcome is Outcome.OK else decision.reason)
        if self._throttle.new([state]):
            quiet = outcome is Outcome.FLAG_OFF or state == (Outcome.OK, None)
            level = logging.INFO if quiet else logging.WARNING
            log(level, "MCP auth %s: %s", outcome, decision.reason)

    def count_decision(self, outcome: Outcome, snapshot: SettingsSnapshot | None = None) -> None:
        """Count a decision, with the audience in `snapshot` or else in the latest one."""
        snapshot = snapshot or self._snapshot
        audience = "" if snapshot is None else AUDIENCES(snapshot.settings.audience)
        self.counters.count("decisions", outcome.value, audience)

    def failed(self, error: Exception) -> Decision:
        """Return what a call carries after an error that nothing else has handled."""
        reason = f"deciding failed ({type(error).__name__})"  # its text may hold anything
        if self._throttle.new([reason]):
            log(logging.WARNING, "MCP auth %s: %s", Outcome.SIGNING_FAILED, reason)
        with suppress(Exception):  # a clock that raises
            if self._cache.is_usable(self._latest.token):
                return self._latest
        return self._counted(without_token(Outcome.SIGNING_FAILED, reason), None)

    def invalidate(self, token: str) -> None:
        """Take note that a server refused `token`.

        If that is the current token, the lease ends, so that flag, secret and settings are read
        again. A new token is minted at once only if the refused one is older than the margin or
        if the secret has changed; a token source is asked at once, but once per margin. So no
        server can make a client mint, or ask for the flag or a token, at each call.
        """
        with self.configuration.lock:
            if self._latest.token != token:
                return
            is_new = self._cache.reject(token)
            is_due = is_new or self._cache.may_replace(token)
        if not is_due and not self._inputs_changed():
            return
        self.end()
        self.counters.count("refreshes")
        if is_new:
            audience = self.configuration.read_settings(self._audience).settings.audience
            hint = "`manor-mcp doctor --url URL` finds out why"
            message = "MCP auth: a server refused the token for %s; %s"
            log(logging.WARNING, message, audience, hint)

    def _inputs_changed(self) -> bool:
        snapshot = self.configuration.read_settings(self._audience)
        found = self._read_credential(snapshot)
        return is_credential(found) and self._cache.inputs_changed(snapshot.settings, found)

    def _read_credential(self, snapshot: SettingsSnapshot) -> CredentialOrProblem:
        """Return what a token comes from now, without asking a token source."""
        return self.configuration.known_credential(snapshot, self._cache)

    def end(self) -> None:
        """Have the next call read flag, settings and secret again."""
        with self.configuration.lock:
            self._times_ended += 1  # a decision that is being made has old inputs
            self._latest = replace(self._latest, valid_until=ENDED)  # no grace period either
            self.decision = UNDECIDED

    def status(self, decision: Decision) -> TokenStatus:
        """Describe `decision`, which was made now. Never raises."""
        try:
            snapshot = self.configuration.read_settings(self._audience)
            found = self._read_credential(snapshot)
            return describe(snapshot, found, decision, self._cache.expires_in(decision.token))
        except Exception as error:  # settings or a clock of the application
            return describe(UNREAD, None, self.failed(error), None)

    def explain(self, decision: Decision) -> Explanation:
        """Return what `decision`, which was made now, comes from."""
        return Explanation(
            given=self.configuration.settings,
            snapshot=self.configuration.read_settings(self._audience),
            answer=decision.answer or NOT_ASKED,
            gate=self.configuration.flags.gate_name,
            keys=self.configuration.keys,
            token_source=self.configuration.token_source_name,
            credential=self._credential,
            audience=self._audience,
        )
