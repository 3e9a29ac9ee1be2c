"""gRPC: a server interceptor for all four kinds of call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", __name__):
    import grpc

from ._door import PHRASE
from ._grpc_gate import HEALTH, Behavior, Gate, rebuild
from .callers import caller_var, current_caller
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken

__all__ = ["MCPAuthServerInterceptor", "current_caller"]

if TYPE_CHECKING:  # generic to type checkers alone
    _ServerInterceptor = grpc.ServerInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.ServerInterceptor

_END = object()


class MCPAuthServerInterceptor(_ServerInterceptor):
    """Lets calls in that carry a valid token; refuses the rest with UNAUTHENTICATED.

    Put it first: ``grpc.server(pool, interceptors=[MCPAuthServerInterceptor()])``. The service's
    own code does not run for a refused call, and reads the caller with `current_caller`.
    """

    def __init__(
        self, verifier: TokenVerifier | None = None, *, exempt: Iterable[str] = HEALTH
    ) -> None:
        """Take what verifies the tokens.

        Args:
            verifier: None is one from the environment, made at need.
            exempt: Methods that need no token, as ``/package.Service/Method`` or
                ``/package.Service/*``. They replace the default, gRPC's health service.
        """
        self._gate = Gate(verifier, exempt)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's own handler around the caller, or one that refuses."""
        handler = continuation(handler_call_details)
        if handler is None:  # no such method: UNIMPLEMENTED
            return None
        verdict = self._gate.judge(handler_call_details)
        if verdict is None:
            return handler
        if isinstance(verdict, Reason):
            return rebuild(handler, lambda *_: _refuse, unread=True)
        return rebuild(
            handler, lambda behavior, stream: as_caller(behavior, verdict, stream=stream)
        )


def _refuse(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, PHRASE)


def as_caller(behavior: Behavior, caller: VerifiedToken, *, stream: bool) -> Behavior:
    """Return `behavior` with `caller` as the current one.

    In a context of its own, since threads are used again: no later RPC may find this caller.
    """

    @wraps(behavior)
    def with_caller(request: Any, context: Any) -> Any:
        own = copy_context()
        own.run(caller_var.set, caller)
        response = own.run(behavior, request, context)
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
