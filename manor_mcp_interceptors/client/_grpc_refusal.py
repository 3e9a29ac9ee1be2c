"""Learn that a server refused a call's token, without waiting for the call."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc

from manor_mcp_interceptors._decision.decision import Decision

# An enumeration finds its members with a function of Python's, up to 3.11.
OK: Final = grpc.StatusCode.OK
UNAUTHENTICATED: Final = grpc.StatusCode.UNAUTHENTICATED


def was_refused(call: Any) -> bool:
    """Return whether `call`, which has ended, met UNAUTHENTICATED. Never waits."""
    try:
        error = call.exception()
    except grpc.FutureCancelledError:
        return False
    return isinstance(error, grpc.RpcError) and is_refusal(error)


def is_known_good(call: Any) -> bool:
    """Return whether `call` says that all went well, without taking its lock.

    Its waiting thread has just been woken, and waits for that lock: to take it here would switch
    from thread to thread some times more. What is read is grpc's own, and may be gone one day;
    `exception()` answers then, as for any other kind of call.
    """
    return getattr(getattr(call, "_state", None), "code", None) is OK


def is_refusal(error: Any) -> bool:
    """Return whether `error`, which a call has raised, is UNAUTHENTICATED."""
    code = getattr(error, "code", None)  # a bare RpcError of someone's own has none
    return code is not None and code() is UNAUTHENTICATED


def watch(refuse: Callable[[Decision], None], call: Any, decision: Decision, *_: Any) -> Any:
    """Have `refuse(decision)` called when `call` ends, if it met UNAUTHENTICATED. Never waits.

    Returns:
        The call.
    """
    try:
        # A weak reference: grpc cancels a stream that nobody holds any more.
        ended = partial(_ended, weakref.ref(call), refuse, decision)
        try:
            waits = call.add_callback(ended)
        except NotImplementedError:  # an error that was raised is a call that has ended
            waits = False
        if not waits:
            ended()
    except Exception:  # another interceptor's object, which is no full call and future
        return call
    return call


def _ended(
    reference: weakref.ref[Any], refuse: Callable[[Decision], None], decision: Decision
) -> None:
    # On the thread that serves the channel, which an exception would kill.
    call = reference()
    try:
        if call is not None and not is_known_good(call) and was_refused(call):
            refuse(decision)
    except Exception:
        return


def code_of_ended(call: Any) -> Any:
    """Return the code of an aio call that has ended, outside of any task; None where that waits."""
    known_good = getattr(getattr(call, "_cython_call", None), "is_ok", None)  # as above
    if known_good is not None and known_good():
        return OK
    waiting = call.code()
    try:
        waiting.send(None)
    except StopIteration as code:
        return code.value
    waiting.close()
    return None
