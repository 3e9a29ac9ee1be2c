"""One question on its way to a gate, and the putting of it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING

from manor_mcp_interceptors.protocols import NoAnswerError

from .gates import Backend, FlagAnswer, FlagQuestion

if TYPE_CHECKING:
    from concurrent.futures import Future


class Job:
    """One question on its way to the gate."""

    def __init__(
        self, backend: Backend, question: FlagQuestion, known_as: Hashable, patience: float
    ) -> None:
        from concurrent.futures import Future  # only where a gate may block

        self.backend = backend
        self.question = question
        self.known_as = known_as
        self.patience = patience
        self.submitted = time.monotonic()
        self.started: float | None = None
        self._thread: int | None = None
        self.abandoned = False
        """Whether somebody has gone on without the answer."""
        self.answered: FlagAnswer | None = None
        self.context = contextvars.copy_context()
        self.answer: Future[FlagAnswer] = Future()

    def result(self, limit: float) -> FlagAnswer | None:
        """Wait for the answer, for `limit` seconds at most; return None where it is late."""
        from concurrent.futures import TimeoutError as FutureTimeoutError

        try:
            return self.answer.result(min(limit, self.remaining()))
        except FutureTimeoutError:
            return None

    def remaining(self) -> float:
        """Seconds that a caller may still wait for the answer."""
        return max(0.0, self.submitted + self.patience - time.monotonic())

    def start(self) -> None:
        """Note that the gate is asked from now on, and on this thread."""
        self.started = time.monotonic()
        self._thread = threading.get_ident()

    def holds_up(self, seconds: float) -> bool:
        """Return whether the gate has been at it for longer than `seconds`.

        For the gate itself it has: a call that it makes would wait for its own answer.
        """
        is_late = self.started is not None and time.monotonic() > self.started + seconds
        return is_late or self._thread == threading.get_ident()


async def wait_for(answer: Future[FlagAnswer], seconds: float) -> None:
    """Wait for `answer` without cancelling it: others may be waiting for it too."""
    import asyncio  # loaded already: its loop is running

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # that loop is closed by now
            loop.call_soon_threadsafe(finish)

    answer.add_done_callback(wake)
    timer = loop.call_later(seconds, finish)
    try:
        await done
    finally:
        timer.cancel()


def evaluate(backend: Backend, question: FlagQuestion) -> FlagAnswer | str:
    try:
        return backend.evaluate(question)
    except Exception as error:
        return _describe(error)


def evaluate_on_worker(backend: Backend, question: FlagQuestion) -> FlagAnswer | str:
    try:
        return backend.evaluate(question)
    except BaseException as error:  # a worker that died of SystemExit would leave callers waiting
        return _describe(error)


def _describe(error: BaseException) -> str:
    name = "" if isinstance(error, NoAnswerError) else f"{type(error).__name__}: "
    try:
        return f"{name}{error}"[:200]
    except Exception:  # an error that cannot even be shown
        return type(error).__name__
