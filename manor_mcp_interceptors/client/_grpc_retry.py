"""A unary call in flight that is sent a second time if its token is refused."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import grpc

from manor_mcp_interceptors._telemetry.log import log

from ._grpc_refusal import was_refused, when_ended, wrapped

Callbacks = list[Callable[[], None]]


class RetryingCall(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """What `.future()` returns: one call to its holder, whether it takes one try or two.

    As with grpc's own calls, a call that nobody holds and that has no done callback is cancelled:
    each try refers to it weakly, but to its callbacks strongly, and a done callback holds the call.
    """

    def __init__(self, first: Any, again: Callable[[], Any]) -> None:
        """Take the first try, in flight.

        Args:
            first: A grpc call that is also a future.
            again: Returns the second try, or None if the refusal stands. It may wait.
        """
        self._call = first  # the latest try
        self._again: Callable[[], Any] | None = partial(copy_context().run, again)
        self._is_renewing = False
        self._is_cancelled = False  # while it had no try in flight
        self._has_ended = False
        self._callbacks: Callbacks = []
        self._changed = threading.Condition()  # reentrant: a collector may drop calls anywhere
        self._watch(first)

    def _watch(self, call: Any) -> None:
        when_ended(call, partial(_try_ended, weakref.ref(self), self._callbacks))

    def _on_end(self) -> None:
        """Begin a second try, or end. On the thread that serves the channel: it must not wait."""
        again, self._again = self._again, None
        if again is None or not was_refused(self._call) or sys.is_finalizing():
            self._end()
            return
        self._is_renewing = True
        args = (weakref.ref(self), self._callbacks, again)
        try:
            threading.Thread(target=_try_again, args=args, daemon=True).start()
        except RuntimeError:  # no thread can be started: the refusal stands
            self._end()

    def _continue_with(self, second: Any) -> None:
        """Take the second try; None: the refusal stands."""
        with self._changed:
            self._is_renewing = False
            self._call = second or self._call
        if second is not None and self._is_cancelled:
            second.cancel()
        elif second is None or wrapped(second, self._watch) is second:  # no complete call
            self._end()

    def _end(self) -> None:
        with self._changed:
            if self._has_ended:
                return
            self._has_ended = True
            self._changed.notify_all()
        run_all(self._callbacks)

    def _last(self, timeout: float | None = None) -> Any:
        """Wait for the end; return the try whose outcome counts."""
        with self._changed:
            if not self._changed.wait_for(self.done, timeout):
                raise grpc.FutureTimeoutError
        return self._call

    def _outcome(self, timeout: float | None) -> Any:
        call = self._last(timeout)
        if self._is_cancelled:
            raise grpc.FutureCancelledError
        return call

    def result(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).result()

    def exception(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).exception()

    def traceback(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).traceback()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        if not self.add_callback(partial(fn, self)):
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._changed:
            if not self._has_ended:
                self._callbacks.append(callback)
            return not self._has_ended

    def cancel(self) -> bool:
        if not self._call.cancel():
            with self._changed:
                if self._has_ended or not self._is_renewing:
                    return False
                self._is_cancelled = True
        self._end()
        return True

    def cancelled(self) -> bool:
        return self._is_cancelled or bool(self._call.cancelled())

    def done(self) -> bool:
        return self._has_ended

    def running(self) -> bool:
        return not self._has_ended

    def is_active(self) -> bool:
        return not self._has_ended

    def time_remaining(self) -> Any:
        return self._call.time_remaining()

    def initial_metadata(self) -> Any:
        return self._last().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._last().trailing_metadata()

    def code(self) -> Any:
        call = self._last()
        return grpc.StatusCode.CANCELLED if self._is_cancelled else call.code()

    def details(self) -> Any:
        call = self._last()
        return "Locally cancelled by application!" if self._is_cancelled else call.details()

    def debug_error_string(self) -> Any:
        return self._last().debug_error_string()


def _try_ended(reference: weakref.ref[RetryingCall], callbacks: Callbacks) -> None:
    call = reference()
    if call is None:
        run_all(callbacks)
    else:
        call._on_end()


def _try_again(
    reference: weakref.ref[RetryingCall], callbacks: Callbacks, again: Callable[[], Any]
) -> None:
    try:
        second = again()
    except Exception:  # the channel was closed, for example: the refusal stands
        second = None
    call = reference()
    if call is None:
        run_all(callbacks)
    else:
        call._continue_with(second)


def run_all(callbacks: Callbacks) -> None:
    """Call back; one that raises does not stop another."""
    while callbacks:
        _run(callbacks.pop(0))


def _run(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:  # in code of the application; grpc logs it too
        log(logging.ERROR, "a done callback of a gRPC call raised", exc_info=True)
