"""A unary call in flight that is made once more when its token is refused."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from typing import Any

import grpc

from manor_mcp_interceptors._telemetry.log import log

from ._grpc_refusal import is_known_good, is_refusal, was_refused


class RetryingCall(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """What `.future()` returns: one call to its holder, whether it took one try or two.

    The first try answers for itself, until it ends refused: only then is there a second try, and
    all that goes with it. As with grpc's own, a call that nobody holds, and that has no done
    callback, is cancelled.
    """

    _second: SecondCall | None = None

    def __init__(self, first: Any, again: Callable[..., Any], *sent: Any) -> None:
        """Take the first try, in flight, and how to start the second.

        Args:
            first: A grpc call that is a future.
            again: Returns the second try's call, or None: the refusal stands. It may wait, and
                raises nothing.
            *sent: What `again` is called with.
        """
        self._first = first
        self._again = again
        self._sent = sent
        self._context = copy_context()
        if not first.add_callback(partial(_first_ended, weakref.ref(self))):
            self._refused()

    def _refused(self) -> SecondCall | None:
        """Return what follows where the first try, which has ended, was refused; else None."""
        first = self._first
        if self._second is None and not is_known_good(first) and was_refused(first):
            second = SecondCall(first)
            # Another thread may have seen it at the same time: one of the two is kept.
            if self.__dict__.setdefault("_second", second) is second:
                weakref.finalize(self, second.cancel).atexit = False
                second.start(self._context, partial(self._again, *self._sent))
        return self._second

    def _last(self, timeout: float | None = None) -> Any:
        """Wait; return the call whose outcome counts."""
        until = None if timeout is None else monotonic() + timeout
        try:
            error = self._first.exception(timeout)
        except grpc.FutureCancelledError:
            return self._first
        second = self._refused() if is_refusal(error) else None
        return self._first if second is None else second.wait(until)

    def _outcome(self, timeout: float | None) -> Any:
        call = self._last(timeout)
        return call if self._second is None else self._second.outcome(None)

    def result(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else monotonic() + timeout
        try:
            return self._first.result(timeout)
        except grpc.RpcError as error:
            second = self._refused() if is_refusal(error) else None
            if second is None:
                raise
        return second.outcome(until).result()

    def exception(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).exception()

    def traceback(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).traceback()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        if not self.add_callback(partial(fn, self)):
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        # Weak, as above; a done callback holds the call by itself.
        if self._first.add_callback(partial(_pass_on, weakref.ref(self), callback)):
            return True
        second = self._refused()
        return second is not None and second.add_callback(callback)

    def cancel(self) -> bool:
        if self._first.cancel():
            return True
        second = self._refused()
        return second is not None and second.cancel()

    def cancelled(self) -> bool:
        second = self._second
        return bool(self._first.cancelled() if second is None else second.cancelled)

    def done(self) -> bool:
        if not self._first.done():
            return False
        second = self._refused()
        return second is None or second.ended

    def running(self) -> bool:
        return not self.done()

    def is_active(self) -> bool:
        return not self.done()

    def time_remaining(self) -> Any:
        call = self._first if self._second is None else self._second.call
        return call.time_remaining()

    def initial_metadata(self) -> Any:
        return self._last().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._last().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = self._last().code()
        cancelled = self._second is not None and self._second.cancelled
        return grpc.StatusCode.CANCELLED if cancelled else code

    def details(self) -> Any:
        details = self._last().details()
        cancelled = self._second is not None and self._second.cancelled
        return "Locally cancelled by application!" if cancelled else details

    def debug_error_string(self) -> Any:
        return self._last().debug_error_string()


def _first_ended(reference: weakref.ref[RetryingCall]) -> None:
    # On the one thread that serves the channel: it must not wait for anything, nor run another
    # interceptor's code, which may wait for a call on this very channel.
    call = reference()
    if call is not None and not is_known_good(call._first):  # a function less, most times
        call._refused()


def _pass_on(reference: weakref.ref[RetryingCall], callback: Callable[[], None]) -> None:
    call = reference()
    second = None if call is None else call._refused()
    if second is None or not second.add_callback(callback):
        callback()


class SecondCall:
    """What follows a refusal: the token is renewed, and the call made once more.

    It is no part of the `RetryingCall`, so that dropping that one is noticed.
    """

    def __init__(self, first: Any) -> None:
        self.call = first  # the latest try, and with `ended` the one whose outcome counts
        self.ended = False
        self.cancelled = False
        self._callbacks: list[Callable[[], None]] = []
        # Its lock is reentrant: a collector may drop calls wherever it runs.
        self._changed = threading.Condition()

    def start(self, context: Context, again: Callable[[], Any]) -> None:
        """Renew and try again, on a thread of its own."""
        try:
            target = context.run
            threading.Thread(target=target, args=(self._try_again, again), daemon=True).start()
        except Exception as error:  # no thread to be had: the refusal stands
            log(logging.WARNING, "MCP auth: no second try: %s", type(error).__name__)
            self._end()

    def wait(self, until: float | None) -> Any:
        """Return the call whose outcome counts."""
        timeout = None if until is None else max(until - monotonic(), 0)
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended, timeout):
                raise grpc.FutureTimeoutError
        return self.call

    def outcome(self, until: float | None) -> Any:
        """As `wait`; a cancelled call has no outcome."""
        call = self.wait(until)
        if self.cancelled:
            raise grpc.FutureCancelledError
        return call

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called at the end; False, and no call, where that is past."""
        with self._changed:
            if not self.ended:
                self._callbacks.append(callback)
            return not self.ended

    def cancel(self) -> bool:
        with self._changed:
            if self.ended:
                return False
            self.cancelled = True
        self.call.cancel()
        self._end()
        return True

    def _try_again(self, again: Callable[[], Any]) -> None:
        second = again()
        if second is not None:
            with self._changed:
                self.call = second
            if self.cancelled:
                second.cancel()
            with suppress(Exception):  # another interceptor's object; it answers for itself
                if second.add_callback(self._end):
                    return
        self._end()

    def _end(self) -> None:
        with self._changed:
            if self.ended:
                return
            self.ended = True
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            run(callback)


def run(callback: Callable[[], None]) -> None:
    """Call back; nothing that comes of it stops another."""
    try:
        callback()
    except Exception:  # the caller's own; grpc logs it, too, and goes on
        log(logging.ERROR, "a done callback of a gRPC call raised", exc_info=True)
