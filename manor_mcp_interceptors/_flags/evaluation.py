"""Ask a gate that may be slow or broken, without ever being slow or broken oneself."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Final

from manor_mcp_interceptors._telemetry.flag_trouble import FlagTrouble
from manor_mcp_interceptors.protocols import Gate

from .gates import Backend, DefaultBackends, EnvironmentGate, FlagAnswer, FlagQuestion, as_backend
from .job import Job, evaluate, evaluate_on_worker, wait_for

FIRST_WAIT: Final = 1.0
"""Seconds that a first decision waits for a gate."""
WAIT: Final = 0.03
"""Seconds that any later decision waits, and only for a gate that is not overdue already.

A gate that is asked at every call is overdue after `FIRST_WAIT`: how patient one caller is says
nothing of another.
"""
LOOP_WAIT: Final = 0.01
"""Seconds that a synchronous call may hold up the event loop on whose thread it runs."""
IDLE_SECONDS: Final = 5.0
"""A worker without a question for so long ends."""
MAX_KNOWN: Final = 4096
"""How many last known answers are kept."""
MAX_LEFT: Final = 8
"""How many questions of a gate per call stay queued when their callers have gone on."""

_LATE: Final = "no answer in time"


class FlagPoll:
    """Asks one gate, one question at a time, and holds the last known answers.

    A gate that may block is asked on a worker thread. A caller waits for a bounded time, and not
    at all once a question is overdue, so that a hanging gate costs one thread and no call. The
    question is queued all the same: a gate that is merely slow gets to answer every one of them.
    """

    def __init__(self, gate: Gate | None, on_change: Callable[[], None]) -> None:
        """Take the gate, None for the default ones, and whom to tell of a change."""
        self._custom = None if gate is None else as_backend(gate)
        self._defaults = DefaultBackends(self.changed)
        self._environment = EnvironmentGate()
        self._on_change = on_change
        self._known: dict[Hashable, FlagAnswer] = {}  # changed under the lock alone
        self._trouble = FlagTrouble()
        self.per_call: Final = self._custom is not None and self._custom.per_call
        self.after_fork()
        if self._custom is not None:
            self._custom.watch(self.changed)

    def after_fork(self) -> None:
        """Start with a free lock and no worker: a forked child has neither of its parent's."""
        self._wake = threading.Condition(threading.RLock())
        self._jobs: deque[Job] = deque()
        self._shared: dict[Hashable, Job] = {}
        self._running: Job | None = None
        self._has_worker = False
        self._trouble.after_fork()

    @property
    def gate_name(self) -> str:
        """Who answers for the flag, as an operator knows it."""
        return self._backend().name

    def changed(self) -> None:
        """End every lease, and let nobody join a question that was put before the change."""
        with self._wake:  # one that is only queued will be put after it
            if self._running is not None:
                self._forget(self._running)
        self._on_change()

    def ask(self, question: FlagQuestion) -> FlagAnswer:
        """Return the gate's answer, or the last known one. Waits briefly, raises nothing."""
        return self._ask(question, LOOP_WAIT if event_loop_runs_here() else FIRST_WAIT)

    def _ask(self, question: FlagQuestion, limit: float) -> FlagAnswer:
        backend = self._backend()
        known_as = _known_as(backend, question)
        if not backend.blocking:
            result = evaluate(backend, question)
            if isinstance(backend, EnvironmentGate) and isinstance(result, FlagAnswer):
                self._trouble.say(None)
                return result  # nothing to remember: it is what stands where nothing is known
            return self._learn(known_as, question, result)
        job = self._submit(backend, question, known_as)
        if job is not None:
            answer = job.result(limit) or self._give_up(job)
            if answer is not None:
                return answer
        return self._last_known(known_as, question)

    async def ask_async(self, question: FlagQuestion) -> FlagAnswer:
        """As `ask`, and the wait yields to the event loop."""
        backend = self._backend()
        if not backend.blocking or not event_loop_runs_here():  # another library's loop: trio
            return self._ask(question, LOOP_WAIT)
        known_as = _known_as(backend, question)
        job = self._submit(backend, question, known_as)
        if job is not None:
            await wait_for(job.answer, job.remaining())
            if (answer := self._give_up(job)) is not None:
                return answer
        return self._last_known(known_as, question)

    def _backend(self) -> Backend:
        return self._custom or self._defaults.choose()

    def _submit(self, backend: Backend, question: FlagQuestion, known_as: Hashable) -> Job | None:
        """Queue the question, or join it where it is queued; None: nobody should wait for it."""
        with self._wake:
            patience = WAIT if known_as in self._known else FIRST_WAIT
            limit = FIRST_WAIT if backend.per_call else patience
            is_overdue = self._running is not None and self._running.holds_up(limit)
            if not self._ensure_worker() or (is_overdue and backend.per_call):
                return None
            job = None if backend.per_call else self._shared.get(known_as)
            if job is None:
                job = Job(backend, question, known_as, patience)
                if not backend.per_call:  # whose answer depends on the asking context
                    self._shared[known_as] = job
                self._jobs.append(job)
            if is_overdue:
                job.abandoned = True
                return None
            return job

    def _give_up(self, job: Job) -> FlagAnswer | None:
        """Go on without the answer, unless it came at the last moment."""
        with self._wake:
            if job.answered is not None:
                return job.answered
            job.abandoned = True
            # The question stays, for the next caller; per call, one for each caller does.
            if job.backend.per_call and job in self._jobs and not self._may_stay(job):
                self._jobs.remove(job)
        return None

    def _may_stay(self, job: Job) -> bool:
        room = len(self._shared) < MAX_LEFT
        return room and self._shared.setdefault(job.known_as, job) is job

    def _forget(self, job: Job) -> None:
        """Let nobody join `job`, nor count on it; the caller holds the lock."""
        if self._shared.get(job.known_as) is job:
            del self._shared[job.known_as]

    def _ensure_worker(self) -> bool:
        if self._has_worker:
            self._wake.notify()
            return True
        # A daemon: a gate that hangs must not keep the process from ending.
        self._has_worker = True  # first: a finalizer's call must not start another
        try:
            threading.Thread(target=self._work, name="mcp-auth-flag", daemon=True).start()
        except Exception:  # the interpreter is ending, or is out of threads or memory
            self._has_worker = False
            return False
        return True

    def _work(self) -> None:
        try:
            while (job := self._next_job()) is not None:
                if job.answer.set_running_or_notify_cancel():
                    job.answer.set_result(self._run(job))
        except BaseException:
            with self._wake:  # the next question gets another worker, and joins none of this one's
                self._has_worker = False
                self._running = None
                self._shared.clear()
            raise

    def _next_job(self) -> Job | None:
        with self._wake:
            self._running = None
            while not self._jobs:
                if not self._wake.wait(IDLE_SECONDS) and not self._jobs:
                    self._has_worker = False
                    return None
            self._running = job = self._jobs.popleft()
            job.start()
            return job

    def _run(self, job: Job) -> FlagAnswer:
        before = self._known.get(job.known_as)
        result = job.context.run(evaluate_on_worker, job.backend, job.question)
        answer = self._learn(job.known_as, job.question, result)
        with self._wake:
            self._forget(job)
            job.answered = answer
            late = job.abandoned and not job.backend.per_call
        if late and (before is None or before.enabled != answer.enabled):
            self.changed()
        return answer

    def _learn(
        self, known_as: Hashable, question: FlagQuestion, result: FlagAnswer | str
    ) -> FlagAnswer:
        """Keep a good answer; for a failure (a text), answer what was last known."""
        if isinstance(result, str):
            return self._last_known(known_as, question, result)
        self._trouble.say(None)
        with self._wake:
            if known_as not in self._known and len(self._known) >= MAX_KNOWN:
                with suppress(RuntimeError, KeyError):  # a finalizer's call came in between
                    del self._known[next(iter(self._known))]
            self._known[known_as] = result
        return result

    def _last_known(
        self, known_as: Hashable, question: FlagQuestion, problem: str = _LATE
    ) -> FlagAnswer:
        known = self._known.get(known_as) or self._environment.evaluate(question)
        # A slow answer after a bad one is the same failure, and no news.
        if problem != _LATE or self._trouble.said is None:
            self._trouble.say(f"flag backend failed ({problem}): the last known answer stands")
        return FlagAnswer(known.enabled, f"{known.source}, last known", problem, known.invalid)


def _known_as(backend: Backend, question: FlagQuestion) -> Hashable:
    """Return what the answer is remembered under: the question, and who asks where that counts."""
    if not backend.per_call:
        return question
    try:
        caller = backend.caller()
        hash(caller)
    except Exception:  # the gate's own code; without a caller it answers for all
        caller = None
    return question, caller


def event_loop_runs_here() -> bool:
    """Return whether asyncio's event loop runs on this thread."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
