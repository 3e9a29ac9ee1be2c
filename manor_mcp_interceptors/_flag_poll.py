"""Ask a gate that may be slow or broken, without ever being slow or broken oneself."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Final

from .flags import (
    Backend,
    CustomBackend,
    DefaultBackends,
    EnvironmentGate,
    FlagAnswer,
    FlagQuestion,
    Gate,
)

_logger = logging.getLogger("manor_mcp_interceptors")

FIRST_WAIT: Final = 1.0
"""Seconds that a first decision waits for a gate."""
WAIT: Final = 0.03
"""Seconds that any later decision waits, and only for a gate that is not overdue already."""
LOOP_WAIT: Final = 0.01
"""Seconds that a synchronous call may hold up the event loop on whose thread it runs."""
IDLE_SECONDS: Final = 5.0
"""A worker without a question for so long ends."""
MAX_KNOWN: Final = 4096
"""How many last known answers are kept."""


@dataclass(eq=False, slots=True)
class _Job:
    """One question on its way to the gate."""

    backend: Backend
    question: FlagQuestion
    patience: float
    submitted: float = field(default_factory=lambda: time.monotonic())
    started: float | None = None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    answer: Future[FlagAnswer] = field(default_factory=Future)

    def remaining(self) -> float:
        """Seconds that a caller may still wait for the answer."""
        return max(0.0, self.submitted + self.patience - time.monotonic())

    def is_overdue(self) -> bool:
        return self.started is not None and time.monotonic() > self.started + self.patience


class FlagPoll:
    """Asks one gate, one question at a time, and holds the last known answers.

    A gate that may block is asked on a worker thread. A caller waits for a bounded time, and not
    at all once a question is overdue, so that a hanging gate costs one thread and no call.
    """

    def __init__(self, gate: Gate | None, on_change: Callable[[], None]) -> None:
        """Take the gate, None for the default ones, and whom to tell of a late answer."""
        self._custom = None if gate is None else CustomBackend(gate)
        self._defaults = DefaultBackends()
        self._environment = EnvironmentGate()
        self._on_change = on_change
        self._known: dict[FlagQuestion, FlagAnswer] = {}
        self._problem: str | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Start with a free lock and no worker: a forked child has neither of its parent's."""
        self._wake = threading.Condition(threading.Lock())
        self._jobs: deque[_Job] = deque()
        self._shared: dict[FlagQuestion, _Job] = {}
        self._running: _Job | None = None
        self._has_worker = False

    @property
    def backend(self) -> Backend:
        """Whoever would answer now."""
        return self._custom or self._defaults.choose()

    def ask(self, question: FlagQuestion) -> FlagAnswer:
        """Return the gate's answer, or the last known one. Waits briefly, raises nothing."""
        backend = self.backend
        if not backend.blocking:
            return self._learn(question, _evaluate(backend, question))
        job = self._submit(backend, question)
        if job is not None:
            limit = LOOP_WAIT if _event_loop_runs_here() else job.patience
            try:
                return job.answer.result(min(limit, job.remaining()))
            except FutureTimeoutError:
                self._give_up(job)
        return self._last_known(question)

    async def ask_async(self, question: FlagQuestion) -> FlagAnswer:
        """As `ask`, and the wait yields to the event loop."""
        backend = self.backend
        if not backend.blocking or not _event_loop_runs_here():  # another library's loop: trio
            return self.ask(question)
        import asyncio  # loaded already: its loop is running

        job = self._submit(backend, question)
        if job is not None:
            waiting = asyncio.wrap_future(job.answer)
            # asyncio.wait, unlike wait_for, leaves alone a future that others share.
            done, _ = await asyncio.wait({waiting}, timeout=job.remaining())
            if done:
                return waiting.result()
            self._give_up(job)
        return self._last_known(question)

    def _submit(self, backend: Backend, question: FlagQuestion) -> _Job | None:
        """Queue the question, or join it where it is queued; None while the gate is overdue."""
        with self._wake:
            if self._running is not None and self._running.is_overdue():
                return None
            job = self._shared.get(question)
            if job is None and self._ensure_worker():
                job = _Job(backend, question, WAIT if question in self._known else FIRST_WAIT)
                if not backend.per_call:  # whose answer depends on the asking context
                    self._shared[question] = job
                self._jobs.append(job)
            return job

    def _give_up(self, job: _Job) -> None:
        # A shared question may still get its answer, for the next caller.
        if job.backend.per_call:
            job.answer.cancel()

    def _ensure_worker(self) -> bool:
        if self._has_worker:
            self._wake.notify()
            return True
        # A daemon: a gate that hangs must not keep the process from ending.
        worker = threading.Thread(target=self._work, name="mcp-auth-flag", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter is ending, or is out of threads
            return False
        self._has_worker = True
        return True

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_result(self._run(job))

    def _next_job(self) -> _Job | None:
        with self._wake:
            self._running = None
            while not self._jobs:
                if not self._wake.wait(IDLE_SECONDS) and not self._jobs:
                    self._has_worker = False
                    return None
            self._running = job = self._jobs.popleft()
            job.started = time.monotonic()
            return job

    def _run(self, job: _Job) -> FlagAnswer:
        before = self._known.get(job.question)
        result = job.context.run(_evaluate_on_worker, job.backend, job.question)
        with self._wake:
            self._shared.pop(job.question, None)
        answer = self._learn(job.question, result)
        late = job.remaining() == 0.0
        if late and (before is None or before.enabled != answer.enabled):
            self._on_change()
        return answer

    def _learn(self, question: FlagQuestion, result: FlagAnswer | str) -> FlagAnswer:
        """Keep a good answer; for a failure (a text), answer what was last known."""
        if isinstance(result, str):
            return self._last_known(question, result)
        self._say(None)
        if question not in self._known and len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[question] = result
        return result

    def _last_known(self, question: FlagQuestion, problem: str = "no answer in time") -> FlagAnswer:
        known = self._known.get(question) or self._environment.evaluate(question)
        self._say(f"flag backend failed ({problem}): the last known answer stands")
        return FlagAnswer(known.enabled, f"{known.source}, last known", problem, known.invalid)

    def _say(self, problem: str | None) -> None:
        """Log a change for the worse or the better, once."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            _logger.info("flag backend answers again")
        else:
            _logger.warning("%s", problem)


def _evaluate(backend: Backend, question: FlagQuestion) -> FlagAnswer | str:
    try:
        return backend.evaluate(question)
    except Exception as error:
        return _describe(error)


def _evaluate_on_worker(backend: Backend, question: FlagQuestion) -> FlagAnswer | str:
    try:
        return backend.evaluate(question)
    except BaseException as error:  # a worker that died of SystemExit would leave callers waiting
        return _describe(error)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _event_loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
