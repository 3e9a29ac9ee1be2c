"""Find out that a server refused the token of a call, without waiting for the call."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc

UNAUTHENTICATED: Final = grpc.StatusCode.UNAUTHENTICATED
"""Looked up once: up to Python 3.11 each look-up of an enumeration's member is a call."""


def is_refusal(error: Any) -> bool:
    """Return whether `error`, which a call raised, is UNAUTHENTICATED."""
    code = getattr(error, "code", None)  # an RpcError of another library may have none
    return code is not None and code() is UNAUTHENTICATED


def was_refused(call: Any) -> bool:
    """Return whether a sync call, which has ended, was refused."""
    try:
        return is_refusal(call.exception())
    except Exception:  # it was cancelled, or is another interceptor's object
        return False


def aio_was_refused(call: Any) -> bool:
    """Return whether an aio call, which has ended, was refused; from outside a coroutine."""
    try:
        call.code().send(None)  # it has the answer already, so it does not wait
    except StopIteration as answer:
        return answer.value is UNAUTHENTICATED
    except Exception:  # another interceptor's object
        return False
    return False


def when_ended(call: Any, callback: Callable[[], None]) -> None:
    """Have `callback` called when a sync call ends, now if it has ended."""
    try:
        will_be_called = call.add_callback(callback)
    except NotImplementedError:  # grpc's errors that were raised: calls that have ended
        will_be_called = False
    if not will_be_called:
        callback()


def wrapped(call: Any, wrap: Callable[..., Any], *args: Any) -> Any:
    """Return ``wrap(call, *args)``, or `call` as it is if it is no complete call.

    Another interceptor may return any object; an RPC must not fail because of it.
    """
    try:
        return wrap(call, *args)
    except Exception:
        return call


def watched(call: Any, on_refusal: Callable[[], None]) -> Any:
    """Return a sync call; `on_refusal` is called when it ends refused.

    The reference is weak, because grpc cancels a stream that nobody holds.
    """
    when_ended(call, partial(_on_end, weakref.ref(call), on_refusal))
    return call


def aio_watched(call: Any, on_refusal: Callable[[], None]) -> Any:
    """Return an aio call; `on_refusal` is called when it ends refused."""
    call.add_done_callback(partial(_on_aio_end, on_refusal))
    return call


def _on_end(reference: weakref.ref[Any], on_refusal: Callable[[], None]) -> None:
    call = reference()
    if call is not None and was_refused(call):
        on_refusal()


def _on_aio_end(on_refusal: Callable[[], None], call: Any) -> None:
    if aio_was_refused(call):
        on_refusal()
