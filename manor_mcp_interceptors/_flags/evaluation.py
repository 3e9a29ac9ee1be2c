"""Evaluate a feature flag with bounded waits and a last-known-answer fallback."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._waiting import (
    LOOP_WAIT,
    event_loop,
    in_worker_thread,
    reset_after_fork,
    wait_until,
)
from manor_mcp_interceptors.protocols import Gate, NoAnswerError

from .gates import EnvironmentGate, FlagAnswer, FlagQuestion, LibraryGate, ManorGate, adapt

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .openfeature_gate import OpenFeatureGate

FIRST_WAIT: Final = 1.0
"""Seconds that a call waits for the first answer to a question."""
WAIT: Final = 0.03
"""Seconds that a call waits for any later answer."""
MAX_KNOWN: Final = 4096
"""How many last known answers are kept."""
MAX_PENDING: Final = 1024
"""How many questions may wait for a gate; further ones get the last known answer."""
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


class _Evaluation:
    """One question that the gate is asked in the worker thread; any number of callers wait."""

    def __init__(
        self,
        gate: LibraryGate,
        question: FlagQuestion,
        context: contextvars.Context,
        wait: float,
    ) -> None:
        from concurrent.futures import Future  # only if a gate may block

        self.gate = gate
        self.question = question
        self.answer: Future[FlagAnswer] = Future()
        self.context = context
        self.has_been_late = False
        """Whether a caller has continued without the answer."""
        self._until = time.monotonic() + wait

    def remaining(self, limit: float) -> float:
        """Return the seconds that a caller may still wait."""
        return max(0.0, min(limit, self._until - time.monotonic()))


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
        self._known: dict[Hashable, FlagAnswer] = {}
        self._problem: str | None = None
        self._throttle = LogThrottle(LOG_SECONDS)
        self.per_call: Final = self._custom is not None and self._custom.per_call
        self.after_fork()
        reset_after_fork(self)
        if self._custom is not None:
            self._custom.watch(self.changed)

    def after_fork(self) -> None:
        """Start with a free lock and no worker: a forked child has neither of its parent's."""
        self._lock = threading.RLock()
        self._queue: deque[_Evaluation] = deque()
        self._pending: dict[FlagQuestion, _Evaluation] = {}
        self._running: _Evaluation | None = None
        self._started = 0.0
        self._has_worker = False

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
        with self._lock:  # a question that is still queued will be asked after it
            if self._running is not None:
                self._forget(self._running)
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
        limit = LOOP_WAIT if event_loop() else FIRST_WAIT
        evaluation = self._submit(gate, question)
        if evaluation is None:
            return self._last_known(question, question)
        from concurrent.futures import wait

        wait([evaluation.answer], evaluation.remaining(_shorter(limit, max_wait)))
        return self._result(evaluation)

    async def ask_async(self, question: FlagQuestion, max_wait: float | None = None) -> FlagAnswer:
        """As `ask`; the event loop, of asyncio or trio, goes on meanwhile."""
        gate = self._gate()
        if not gate.blocking or event_loop() is None:
            return self.ask(question, max_wait)
        if gate.per_call:
            return await in_worker_thread(lambda: self._ask_here(gate, question))
        evaluation = self._submit(gate, question)
        if evaluation is None:
            return self._last_known(question, question)
        seconds = evaluation.remaining(_shorter(FIRST_WAIT, max_wait))
        await wait_until(evaluation.answer.done, seconds)
        return self._result(evaluation)

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

    def _submit(self, gate: LibraryGate, question: FlagQuestion) -> _Evaluation | None:
        """Queue the question, or join it if it is pending; None if the gate cannot be asked."""
        with self._lock:
            if (evaluation := self._pending.get(question)) is not None:
                return evaluation
            if len(self._pending) >= MAX_PENDING or not self._start_worker():
                return None
            wait = WAIT if question in self._known else FIRST_WAIT
            is_overdue = self._running and time.monotonic() > self._started + wait
            context = contextvars.Context() if self._isolated else contextvars.copy_context()
            evaluation = _Evaluation(gate, question, context, 0.0 if is_overdue else wait)
            self._pending[question] = evaluation
            self._queue.append(evaluation)
            return evaluation

    def _result(self, evaluation: _Evaluation) -> FlagAnswer:
        with self._lock:
            if evaluation.answer.done():
                return evaluation.answer.result()
            evaluation.has_been_late = True
        return self._last_known(evaluation.question, evaluation.question)

    def _start_worker(self) -> bool:
        if self._has_worker:
            return True
        if sys.is_finalizing():  # a thread that is started now would never end
            return False
        try:
            # A daemon: a gate that hangs must not keep the process from ending.
            threading.Thread(target=self._work, name="mcp-auth-flag", daemon=True).start()
        except Exception:  # the interpreter is ending, or is out of threads or memory
            return False
        self._has_worker = True
        return True

    def _work(self) -> None:
        try:
            while (evaluation := self._next()) is not None:
                self._answer(evaluation)
        except BaseException:  # a gate that raises SystemExit: the next question gets a new worker
            with self._lock:
                self._queue.clear()
                self._pending.clear()
                self._running, self._has_worker = None, False
            raise

    def _next(self) -> _Evaluation | None:
        with self._lock:
            self._running = self._queue.popleft() if self._queue else None
            self._started = time.monotonic()
            self._has_worker = self._running is not None
            return self._running

    def _answer(self, evaluation: _Evaluation) -> None:
        question = evaluation.question
        before = self._known.get(question)
        result = evaluation.context.run(_evaluate, evaluation.gate, question)
        answer = self._learn(question, question, result)
        with self._lock:
            self._forget(evaluation)
            evaluation.answer.set_result(answer)
            is_late = evaluation.has_been_late
        if is_late and (before is None or before.enabled != answer.enabled):
            self.changed()

    def _forget(self, evaluation: _Evaluation) -> None:
        if self._pending.get(evaluation.question) is evaluation:
            del self._pending[evaluation.question]

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


def _shorter(limit: float, max_wait: float | None) -> float:
    return limit if max_wait is None else min(limit, max_wait)


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
