"""What an application may hand in: the time, the flag's answers, and tokens made elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

__all__ = ["Clock", "Gate", "NoAnswerError", "TokenSource"]


class Clock(Protocol):
    """The time, as the standard library's `time` module tells it; that module is the default."""

    def time(self) -> float:
        """Return Unix time, seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start."""
        ...


class Gate(Protocol):
    """What ``configure(gate=...)`` takes: any object that answers for one flag.

    Optional attributes change how it is asked:

    ``per_call = True``: the answer depends on the call (a user, a request). It is asked at every
    call, on the caller's thread and in the caller's context variables; async callers ask it in a
    worker thread. No answer is leased.

    ``blocking = False``: a promise that answering does no I/O, so it is asked on the caller's
    thread. Otherwise a thread of this library asks, one question at a time, and callers wait for
    it briefly or go on with the last known answer.

    ``caller()``, with `per_call`: whom the call is for, as text or None. The last known answer is
    kept for each caller separately.

    ``watch(notify)``: takes a function to call, from any thread, when an answer may have changed;
    every lease ends at once. A gate that outlives the configuration should hold it weakly.
    """

    def is_enabled(self, key: str, *, subject: str) -> bool:
        """Return whether flag `key` is on for `subject`, the service that makes the calls.

        Raises:
            NoAnswerError: There is no answer now; the last known one stands. So it does after any
                other exception.
        """
        ...


class NoAnswerError(Exception):
    """A gate may raise it: it has no answer now, so the last known one stands."""


class TokenSource(Protocol):
    """What ``configure(token_source=...)`` takes: a function that returns a token, or is async.

    A thread of this library calls it, for one audience at a time, and callers wait for it
    briefly. A JWT is used until its `exp`; the source is called for the next one within the
    refresh margin, and at once, but at most once per margin, after a server has refused it. A
    token without an `exp` that can be read is asked for again at each recheck.

    An async source runs on an asyncio event loop of that thread, the same one each time. It must
    not use what belongs to the application's event loop, such as a client that was made there.
    """

    def __call__(self, audience: str, /) -> str | Awaitable[str | None] | None:
        """Return a token for `audience`, or None if there is none for it.

        After an exception, or without an answer in time, the last token stays in use until its
        `exp`. The text of the exception is not logged: it may hold a token.
        """
        ...
