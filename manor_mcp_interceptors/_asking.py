"""Ask what may be slow, in one worker thread and with bounded waits."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ._waiting import LOOP_WAIT, event_loop, reset_after_fork, wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future

FIRST_WAIT: Final = 1.0
"""Seconds that a call waits for the first answer to a question."""
WAIT: Final = 0.03
"""Seconds that a call waits for any later answer."""
MAX_PENDING: Final = 1024
"""How many questions may wait; further ones have no answer."""

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class _Pending(Generic[Question, Answer]):
    """One question, which is asked in the worker thread; any number of callers wait."""

    def __init__(
        self,
        question: Question,
        ask: Callable[[], Answer],
        context: contextvars.Context,
        wait: float,
    ) -> None:
        from concurrent.futures import Future  # only if something may block

        self.question = question
        self.ask = ask
        self.answer: Future[Answer] = Future()
        self.context = context
        self.has_been_late = False
        """Whether a caller has continued without the answer."""
        self._until = time.monotonic() + wait

    def remaining(self, limit: float, max_wait: float | None) -> float:
        """Return the seconds that a caller may still wait."""
        if max_wait is not None:
            limit = min(limit, max_wait)
        return max(0.0, min(limit, self._until - time.monotonic()))


class Asker(Generic[Question, Answer]):
    """Asks in one worker thread, a question at a time. Safe from any thread.

    A question is shared by all who ask it meanwhile. Callers wait for a bounded time, so what
    hangs costs one thread and delays no call.
    """

    def __init__(
        self, thread: str, on_late: Callable[[Answer], None], *, isolated: bool = False
    ) -> None:
        """Make one that starts its thread when there is something to ask.

        Args:
            thread: The name of the thread.
            on_late: Takes each answer for which a caller has not waited.
            isolated: Whether a question is asked without the caller's context variables.
        """
        self._thread = thread
        self._on_late = on_late
        self._isolated = isolated
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with a free lock and no worker: a forked child has neither of its parent's."""
        self._lock = threading.RLock()
        self._queue: deque[_Pending[Question, Answer]] = deque()
        self._pending: dict[Question, _Pending[Question, Answer]] = {}
        self._running: _Pending[Question, Answer] | None = None
        self._started = 0.0
        self._has_worker = False

    def ask(
        self,
        question: Question,
        ask: Callable[[], Answer],
        *,
        is_known: bool,
        max_wait: float | None = None,
    ) -> Answer | None:
        """Return the answer; None if there is none in time, or the question cannot be asked.

        Args:
            question: Callers with equal ones share the answer.
            ask: Answers it, in the worker thread; raises nothing.
            is_known: Whether the caller has an earlier answer, and so waits for a short time.
            max_wait: Seconds to wait at most; None is this library's own limit.
        """
        pending = self._submit(question, ask, is_known=is_known)
        if pending is None:
            return None
        from concurrent.futures import wait

        limit = LOOP_WAIT if event_loop() else FIRST_WAIT
        wait([pending.answer], pending.remaining(limit, max_wait))
        return self._result(pending)

    async def ask_async(
        self,
        question: Question,
        ask: Callable[[], Answer],
        *,
        is_known: bool,
        max_wait: float | None = None,
    ) -> Answer | None:
        """As `ask`; the event loop, of asyncio or trio, continues meanwhile."""
        if event_loop() is None:
            return self.ask(question, ask, is_known=is_known, max_wait=max_wait)
        pending = self._submit(question, ask, is_known=is_known)
        if pending is None:
            return None
        await wait_until(pending.answer.done, pending.remaining(FIRST_WAIT, max_wait))
        return self._result(pending)

    def forget_running(self) -> None:
        """Have no caller join the question that is being asked: its answer may be outdated."""
        with self._lock:  # a question that is still queued will be asked after this
            if self._running is not None:
                self._forget(self._running)

    def _submit(
        self, question: Question, ask: Callable[[], Answer], *, is_known: bool
    ) -> _Pending[Question, Answer] | None:
        """Queue the question, or join it if it is pending; None if it cannot be asked."""
        with self._lock:
            if (pending := self._pending.get(question)) is not None:
                return pending
            if len(self._pending) >= MAX_PENDING or not self._start_worker():
                return None
            wait = WAIT if is_known else FIRST_WAIT
            is_overdue = self._running and time.monotonic() > self._started + wait
            context = contextvars.Context() if self._isolated else contextvars.copy_context()
            pending = _Pending(question, ask, context, 0.0 if is_overdue else wait)
            self._pending[question] = pending
            self._queue.append(pending)
            return pending

    def _result(self, pending: _Pending[Question, Answer]) -> Answer | None:
        with self._lock:
            if pending.answer.done():
                return pending.answer.result()
            pending.has_been_late = True
        return None

    def _start_worker(self) -> bool:
        if self._has_worker:
            return True
        if sys.is_finalizing():  # a thread that is started now would never end
            return False
        try:
            # A daemon: what hangs must not keep the process from ending.
            threading.Thread(target=self._work, name=self._thread, daemon=True).start()
        except Exception:  # the interpreter is ending, or is out of threads or memory
            return False
        self._has_worker = True
        return True

    def _work(self) -> None:
        try:
            while (pending := self._next()) is not None:
                self._answer(pending)
        except BaseException:  # SystemExit: the next question gets a new worker
            with self._lock:
                self._queue.clear()
                self._pending.clear()
                self._running, self._has_worker = None, False
            raise

    def _next(self) -> _Pending[Question, Answer] | None:
        with self._lock:
            self._running = self._queue.popleft() if self._queue else None
            self._started = time.monotonic()
            self._has_worker = self._running is not None
            return self._running

    def _answer(self, pending: _Pending[Question, Answer]) -> None:
        answer = pending.context.run(pending.ask)
        with self._lock:
            self._forget(pending)
            pending.answer.set_result(answer)
            is_late = pending.has_been_late
        if is_late:
            self._on_late(answer)

    def _forget(self, pending: _Pending[Question, Answer]) -> None:
        if self._pending.get(pending.question) is pending:
            del self._pending[pending.question]
