"""What the sync and the aio interceptor share: which calls are let in, and the current caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import wraps
from typing import Any, Final

import grpc

from manor_mcp_interceptors._bearer import METADATA_KEY

from ._caller import caller_var
from ._observation import grpc_peer
from ._scopes import required
from .reasons import Reason, Unverified, message
from .verifier import TokenVerifier, VerifiedToken, start_serving, verification_of

HEALTH: Final = ("/grpc.health.v1.Health/*",)
"""Probes carry no token. Reflection is not exempt: it lists what can be attacked."""

Behavior = Callable[..., Any]
Enter = Callable[[Any], None]
"""Called with the RPC's context before its behavior: sets the caller."""
Admission = VerifiedToken | Unverified | Reason | None
"""The caller; that a call is let through unverified; why it is refused; None if it needs none."""

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
_END: Final = object()


class CallGate:
    """Decides by method and metadata whether a call is let in."""

    def __init__(
        self, verifier: TokenVerifier | None, exempt: Iterable[str], scopes: Iterable[str]
    ) -> None:
        self._scopes = required(scopes)
        patterns = tuple(exempt)
        for pattern in patterns:
            if pattern.count("/") != 2 or not pattern.startswith("/"):  # noqa: PLR2004 - /service/method
                raise ValueError(
                    f"exempt={pattern!r}: give a method as '/package.Service/Method',"
                    " or all methods of a service as '/package.Service/*'"
                )
        self._verifier = verifier
        self._exempt = frozenset(patterns)
        start_serving(verifier)

    def admit(self, handler: Any, details: grpc.HandlerCallDetails) -> Admission:
        """Decide on a call for `handler`, which is None if there is no such method."""
        if handler is None or self._is_exempt(details.method):
            return None
        return verification_of(self._verifier).admit(_authorizations(details), self._scopes)

    async def admit_async(self, handler: Any, details: grpc.HandlerCallDetails) -> Admission:
        """As `admit`; the event loop continues while a flag is asked."""
        if handler is None or self._is_exempt(details.method):
            return None
        values = _authorizations(details)
        return await verification_of(self._verifier).admit_async(values, self._scopes)

    def guard(
        self,
        handler: Any,
        details: grpc.HandlerCallDetails,
        admission: Admission,
        entering: Callable[..., Behavior],
        refuse: Callable[[Reason], Behavior],
    ) -> Any:
        """Return a handler of the same kind that runs as the caller, or one that refuses.

        Args:
            handler: The method's handler; None if there is no such method: UNIMPLEMENTED.
            details: Method and metadata of the call.
            admission: What `admit` has decided.
            entering: Returns its first argument, a behavior, that first calls its second, an
                `Enter`.
            refuse: Returns a behavior that aborts the call for a reason.
        """
        if admission is None:
            return handler
        streams = bool(handler.response_streaming)
        kind, make = _KINDS[bool(handler.request_streaming), streams]
        if isinstance(admission, Reason):  # no deserializer: a refused request is not parsed
            return make(refuse(admission), None, handler.response_serializer)
        enter = self._enter(admission, details)
        behavior = entering(getattr(handler, kind), enter, stream=streams)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _enter(
        self, admission: VerifiedToken | Unverified, details: grpc.HandlerCallDetails
    ) -> Enter:
        if isinstance(admission, VerifiedToken):
            return lambda _: _set_caller(admission)

        def enter_unverified(context: Any) -> None:
            _set_caller(None)
            metadata = details.invocation_metadata or ()
            verification = verification_of(self._verifier)
            verification.observe(admission, lambda: grpc_peer(context.peer(), metadata))

        return enter_unverified

    def _is_exempt(self, method: str) -> bool:
        service = method.rpartition("/")[0]
        return method in self._exempt or f"{service}/*" in self._exempt


def _authorizations(details: grpc.HandlerCallDetails) -> list[str]:
    metadata = details.invocation_metadata or ()
    return [str(value) for key, value in metadata if key == METADATA_KEY]


def status(reason: Reason) -> tuple[grpc.StatusCode, str]:
    """Return the status of a refused call, and its message."""
    code = grpc.StatusCode
    refused = code.PERMISSION_DENIED if reason is Reason.SCOPE else code.UNAUTHENTICATED
    return refused, message(reason)


def _set_caller(caller: VerifiedToken | None) -> None:
    caller_var.set(caller)


def entering(behavior: Behavior, enter: Enter, *, stream: bool) -> Behavior:
    """Return `behavior`, a plain function, that first calls `enter`.

    It runs in a context of its own, because threads are reused: no later RPC sees this caller.
    """

    @wraps(behavior)  # which keeps the attribute `experimental_non_blocking`
    def with_caller(request: Any, context: Any, *callback: Any) -> Any:
        own = copy_context()
        own.run(enter, context)
        # A non-blocking behavior gets a callback for its responses; gRPC ignores what it returns.
        response = own.run(behavior, request, context, *callback)
        return _iterate(own, response) if stream else response

    return with_caller


def _iterate(own: Context, responses: Iterator[Any]) -> Iterator[Any]:
    """Run a generator's body in the context that its handler was called in."""
    try:
        while (response := own.run(next, responses, _END)) is not _END:
            yield response
    finally:
        close = getattr(responses, "close", None)
        if close is not None:
            own.run(close)
