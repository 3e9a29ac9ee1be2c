"""Evaluate a feature flag: who answers, and the last known answer if nobody does."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from manor_mcp_interceptors._asking import Asker
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._waiting import event_loop, in_worker_thread, reset_after_fork
from manor_mcp_interceptors.protocols import Gate, NoAnswerError

from .gates import EnvironmentGate, FlagAnswer, FlagQuestion, LibraryGate, ManorGate, adapt

if TYPE_CHECKING:
    from .openfeature_gate import OpenFeatureGate

MAX_KNOWN: Final = 4096
"""How many last known answers are kept."""
LOG_SECONDS: Final = 60.0
"""A gate that fails and recovers all the time is logged once in so many seconds."""

_LATE: Final = "no answer in time"


class DefaultGates:
    """The gate to ask if none was configured: the first of three that is available."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._manor: ManorGate | None = None
        self._searched_for_manor = False
        self._openfeature: OpenFeatureGate | None = None
        self.environment: Final = EnvironmentGate()

    def choose(self) -> LibraryGate:
        if not self._searched_for_manor or "manor.feature_flags" in sys.modules:
            self._searched_for_manor = True
            self._manor = self._manor or (ManorGate() if ManorGate.is_available() else None)
        gate: LibraryGate | None = self._manor
        # An application that never imported OpenFeature cannot have set a provider.
        if gate is None and "openfeature.api" in sys.modules:
            gate = self._openfeature_gate()
        return gate or self.environment

    def _openfeature_gate(self) -> LibraryGate | None:
        try:
            if self._openfeature is None:
                from .openfeature_gate import OpenFeatureGate

                gate = OpenFeatureGate()
                gate.watch(self._notify)
                self._openfeature = gate
            return self._openfeature if self._openfeature.has_provider() else None
        except Exception:  # too old, still being imported, or a client that raises
            return None


@dataclass(frozen=True, slots=True)
class _Learned:
    """An answer out of the worker thread."""

    answer: FlagAnswer
    is_new: bool
    """Whether it differs from the one that was known before."""


class FlagEvaluator:
    """Asks one gate and holds the last known answers. Safe from any thread.

    A gate that may block is asked in one worker thread, a question at a time; the question is
    shared by all who ask it meanwhile. Callers wait for a bounded time, so a gate that hangs
    costs one thread and delays no call. A gate that answers per call, or that promises not to
    block, is asked on the caller's thread.
    """

    def __init__(
        self,
        gate: Gate | None,
        on_change: Callable[[], None],
        *,
        isolated: bool = False,
    ) -> None:
        """Take the gate (None: the default ones) and what to call when an answer has changed.

        Args:
            gate: Who answers.
            on_change: What to call when an answer has changed.
            isolated: Whether the gate sees none of the caller's context variables, so that no
                request can influence the answer.

        Raises:
            SettingsError: The gate is malformed.
        """
        self._custom = None if gate is None else adapt(gate)
        self._defaults = DefaultGates(self.changed)
        self._on_change = on_change
        self._isolated = isolated
        self._asker: Asker[FlagQuestion, _Learned] = Asker(
            "mcp-auth-flag", self._on_late, isolated=isolated
        )
        self._known: dict[Hashable, FlagAnswer] = {}
        self._problem: str | None = None
        self._throttle = LogThrottle(LOG_SECONDS)
        self.per_call: Final = self._custom is not None and self._custom.per_call
        self.after_fork()
        reset_after_fork(self)
        if self._custom is not None:
            self._custom.watch(self.changed)

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = threading.RLock()

    @property
    def gate_name(self) -> str:
        """Who answers for the flag, as an operator knows it."""
        return self._gate().name

    @property
    def problem(self) -> str | None:
        """Why the latest answers are not fresh, as far as it was logged; None if they are."""
        return self._problem

    def changed(self) -> None:
        """End every lease; no caller may join a question that was asked before the change."""
        self._asker.forget_running()
        self._on_change()

    def ask(self, question: FlagQuestion, max_wait: float | None = None) -> FlagAnswer:
        """Return the gate's answer, or the last known one. Raises nothing.

        Args:
            question: The flag and the caller.
            max_wait: Seconds to wait at most; None is this library's own limit.
        """
        gate = self._gate()
        if gate.per_call or not gate.blocking:
            return self._ask_here(gate, question)
        is_known = question in self._known
        ask = partial(self._ask_in_worker, gate, question)
        return self._or_last_known(
            question, self._asker.ask(question, ask, is_known=is_known, max_wait=max_wait)
        )

    async def ask_async(self, question: FlagQuestion, max_wait: float | None = None) -> FlagAnswer:
        """As `ask`; the event loop, of asyncio or trio, continues meanwhile."""
        gate = self._gate()
        if not gate.blocking or event_loop() is None:
            return self.ask(question, max_wait)
        if gate.per_call:
            return await in_worker_thread(lambda: self._ask_here(gate, question))
        is_known = question in self._known
        ask = partial(self._ask_in_worker, gate, question)
        return self._or_last_known(
            question,
            await self._asker.ask_async(question, ask, is_known=is_known, max_wait=max_wait),
        )

    def _gate(self) -> LibraryGate:
        return self._custom or self._defaults.choose()

    def _ask_here(self, gate: LibraryGate, question: FlagQuestion) -> FlagAnswer:
        if gate is self._defaults.environment:
            self._report(None)  # nothing to remember: it stands while nothing else is known
            return gate.evaluate(question)
        if self._isolated:
            result = contextvars.Context().run(_evaluate, gate, question)
        else:
            result = _evaluate(gate, question)
        return self._learn(_cache_key(gate, question), question, result)

    def _ask_in_worker(self, gate: LibraryGate, question: FlagQuestion) -> _Learned:
        before = self._known.get(question)
        answer = self._learn(question, question, _evaluate(gate, question))
        return _Learned(answer, before is None or before.enabled != answer.enabled)

    def _on_late(self, learned: _Learned) -> None:
        if learned.is_new:
            self.changed()

    def _or_last_known(self, question: FlagQuestion, learned: _Learned | None) -> FlagAnswer:
        return self._last_known(question, question) if learned is None else learned.answer

    def _learn(self, key: Hashable, question: FlagQuestion, result: FlagAnswer | str) -> FlagAnswer:
        """Keep a good answer; after a failure (a text), return the last known answer."""
        if isinstance(result, str):
            return self._last_known(key, question, result)
        self._report(None)
        with self._lock:
            if key not in self._known and len(self._known) >= MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[key] = result
        return result

    def _last_known(
        self, key: Hashable, question: FlagQuestion, problem: str = _LATE
    ) -> FlagAnswer:
        known = self._known.get(key) or self._defaults.environment.evaluate(question)
        # A slow answer after a bad one is the same failure.
        if problem != _LATE or self._problem is None:
            self._report(problem)
        return replace(known, source=f"{known.source}, last known", problem=problem)

    def _report(self, problem: str | None) -> None:
        """Log a failure or a recovery of the gate when it begins."""
        if problem == self._problem:
            return
        if not self._throttle.due(problem is None, time.monotonic()):
            return
        self._problem = problem
        if problem is None:
            log(logging.INFO, "flag backend answers again")
        else:
            message = "flag backend failed (%s): the last known answer stands"
            log(logging.WARNING, message, problem)


def _evaluate(gate: LibraryGate, question: FlagQuestion) -> FlagAnswer | str:
    """Return the gate's answer, or why there is none."""
    try:
        return gate.evaluate(question)
    except Exception as error:
        return _describe(error)


def _describe(error: BaseException) -> str:
    name = "" if isinstance(error, NoAnswerError) else f"{type(error).__name__}: "
    try:
        return f"{name}{error}"[:200]
    except Exception:  # an error that cannot be shown
        return type(error).__name__


def _cache_key(gate: LibraryGate, question: FlagQuestion) -> Hashable:
    """Return the question and, for per-call gates, the caller."""
    if not gate.per_call:
        return question
    try:
        caller = gate.caller()
        hash(caller)
    except Exception:  # the gate's own code; without a caller the answer is for all
        caller = None
    return question, caller
