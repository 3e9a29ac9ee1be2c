"""A unary call in flight that is made once more when its token is refused."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import grpc

_logger = logging.getLogger("manor_mcp_interceptors")


def was_refused(call: Any) -> bool:
    """Return whether `call`, which has ended, met UNAUTHENTICATED. Never waits."""
    try:
        error = call.exception()
    except grpc.FutureCancelledError:
        return False
    return isinstance(error, grpc.RpcError) and is_refusal(error)


def is_refusal(error: Any) -> bool:
    """Return whether `error`, which a call has raised, is UNAUTHENTICATED."""
    code = getattr(error, "code", None)  # a bare RpcError of someone's own has none
    return code is not None and code() is grpc.StatusCode.UNAUTHENTICATED


def watch(call: Any, refused: Callable[[], None]) -> None:
    """Have `refused` called when `call` ends, if it met UNAUTHENTICATED. Never waits."""
    try:
        # A weak reference: grpc cancels a stream that nobody holds any more.
        ended = partial(_ended, weakref.ref(call), refused)
        try:
            waits = call.add_callback(ended)
        except NotImplementedError:  # an error that was raised is a call that has ended
            waits = False
        if not waits:
            ended()
    except Exception:  # another interceptor's object, which is no full call and future
        return


def _ended(reference: weakref.ref[Any], refused: Callable[[], None]) -> None:
    # On the thread that serves the channel, which an exception would kill.
    call = reference()
    try:
        if call is not None and was_refused(call):
            refused()
    except Exception:
        return


class RetryingCall(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """What `.future()` returns: one call to its holder, whether it took one try or two.

    As with grpc's own, a call that nobody holds, and that has no done callback, is cancelled.
    """

    def __init__(self, tries: Tries) -> None:
        self._tries = tries

    def __del__(self) -> None:
        self._tries.cancel()

    def result(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).result()

    def exception(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).exception()

    def traceback(self, timeout: float | None = None) -> Any:
        return self._outcome(timeout).traceback()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        if not self._tries.add_callback(lambda: fn(self)):
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._tries.add_callback(callback)

    def cancel(self) -> bool:
        return self._tries.cancel()

    def cancelled(self) -> bool:
        return self._tries.cancelled

    def done(self) -> bool:
        return self._tries.ended

    def running(self) -> bool:
        return not self._tries.ended

    def is_active(self) -> bool:
        return not self._tries.ended

    def time_remaining(self) -> Any:
        return self._tries.call.time_remaining()

    def initial_metadata(self) -> Any:
        return self._tries.wait().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._tries.wait().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = self._tries.wait().code()
        return grpc.StatusCode.CANCELLED if self._tries.cancelled else code

    def details(self) -> Any:
        details = self._tries.wait().details()
        return "Locally cancelled by application!" if self._tries.cancelled else details

    def debug_error_string(self) -> Any:
        return self._tries.wait().debug_error_string()

    def _outcome(self, timeout: float | None) -> Any:
        call = self._tries.wait(timeout)
        if self._tries.cancelled:
            raise grpc.FutureCancelledError
        return call


class Tries:
    """The state of a `RetryingCall`, apart from it, so that dropping the call is noticed."""

    def __init__(self, call: Any, again: Callable[[], Any]) -> None:
        """Take the first try, in flight, and how to start the second.

        Args:
            call: A grpc call that is a future.
            again: Returns the second try's call, or None: the refusal stands. It may wait, and
                raises nothing.
        """
        self.call = call  # the latest try, and with `ended` the one whose outcome counts
        self.ended = False
        self.cancelled = False
        self._again = again
        self._context = copy_context()
        self._callbacks: list[Callable[[], None]] = []
        # Its lock is reentrant: `RetryingCall.__del__` may run wherever the collector does.
        self._changed = threading.Condition()
        if not call.add_callback(self._first_ended):
            self._first_ended()

    def wait(self, timeout: float | None = None) -> Any:
        """Return the call whose outcome counts."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended, timeout):
                raise grpc.FutureTimeoutError
        return self.call

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

    def _first_ended(self) -> None:
        # On the one thread that serves the channel: it must not wait for anything, nor run
        # another interceptor's code, which may wait for a call on this very channel.
        try:
            if not self.ended and was_refused(self.call):
                target = self._context.run
                threading.Thread(target=target, args=(self._try_again,), daemon=True).start()
                return
        except Exception as error:  # no thread to be had: the refusal stands
            _logger.warning("MCP auth: no second try: %s", type(error).__name__)
        self._end()

    def _try_again(self) -> None:
        second = self._again()
        if second is not None:
            with self._changed:
                self.call = second
            if self.cancelled:
                second.cancel()
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
            _run(callback)


def _run(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:  # the caller's own; grpc logs it, too, and goes on
        _logger.exception("a done callback of a gRPC call raised")
