"""What the sync and the aio interceptor share: which calls are let in, and the current caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import Any, Final

import grpc

from manor_mcp_interceptors._bearer import METADATA_KEY

from ._scopes import required
from .reasons import Reason, message
from .verifier import TokenVerifier, VerifiedToken, verification_of

HEALTH: Final = ("/grpc.health.v1.Health/*",)
"""Probes carry no token. Reflection is not exempt: it lists what can be attacked."""

Behavior = Callable[..., Any]

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
_END: Final = object()

caller_var: Final[ContextVar[VerifiedToken | None]] = ContextVar(
    "manor_mcp_interceptors_caller", default=None
)


def current_caller() -> VerifiedToken | None:
    """Return the verified caller of the RPC that this code serves.

    None outside of an RPC and in an exempt method. Code that a handler runs in another thread
    sees the caller only if the context is passed on, as `asyncio.to_thread` does.
    """
    return caller_var.get()


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
        verification_of(verifier)  # a server without a secret logs it now, before its first call

    def guard(
        self,
        handler: Any,
        details: grpc.HandlerCallDetails,
        as_caller: Callable[..., Behavior],
        refuse: Callable[[Reason], Behavior],
    ) -> Any:
        """Return a handler of the same kind that runs as the caller, or one that refuses.

        Args:
            handler: The method's handler; None if there is no such method: UNIMPLEMENTED.
            details: Method and metadata of the call.
            as_caller: Returns its first argument, a behavior, with its second as the caller.
            refuse: Returns a behavior that aborts the call for a reason.
        """
        if handler is None or self._is_exempt(details.method):
            return handler
        streams = bool(handler.response_streaming)
        kind, make = _KINDS[bool(handler.request_streaming), streams]
        result = self._check(details)
        if isinstance(result, Reason):  # no deserializer: a refused request is not parsed
            return make(refuse(result), None, handler.response_serializer)
        behavior = as_caller(getattr(handler, kind), result, stream=streams)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _is_exempt(self, method: str) -> bool:
        service = method.rpartition("/")[0]
        return method in self._exempt or f"{service}/*" in self._exempt

    def _check(self, details: grpc.HandlerCallDetails) -> VerifiedToken | Reason:
        metadata = details.invocation_metadata or ()
        values = [str(value) for key, value in metadata if key == METADATA_KEY]
        return verification_of(self._verifier).check_authorization(values, self._scopes)


def status(reason: Reason) -> tuple[grpc.StatusCode, str]:
    """Return the status of a refused call, and its message."""
    code = grpc.StatusCode
    refused = code.PERMISSION_DENIED if reason is Reason.SCOPE else code.UNAUTHENTICATED
    return refused, message(reason)


def as_caller(behavior: Behavior, caller: VerifiedToken, *, stream: bool) -> Behavior:
    """Return `behavior`, a plain function, with `caller` as the current caller.

    It runs in a context of its own, because threads are reused: no later RPC sees this caller.
    """

    @wraps(behavior)  # which keeps the attribute `experimental_non_blocking`
    def with_caller(request: Any, context: Any, *callback: Any) -> Any:
        own = copy_context()
        own.run(caller_var.set, caller)
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
