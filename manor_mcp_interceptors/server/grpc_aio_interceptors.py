"""gRPC on asyncio: a server interceptor for all four kinds of call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", __name__):
    import grpc
    import grpc.aio

from ._door import PHRASE
from ._grpc_gate import HEALTH, Behavior, Gate, rebuild
from .callers import caller_var, current_caller
from .grpc_interceptors import as_caller
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken

__all__ = ["AioMCPAuthServerInterceptor", "current_caller"]

if TYPE_CHECKING:  # generic to type checkers alone
    _ServerInterceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.aio.ServerInterceptor


class AioMCPAuthServerInterceptor(_ServerInterceptor):
    """As `MCPAuthServerInterceptor`, for ``grpc.aio.server(interceptors=[...])``."""

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

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the method's own handler around the caller, or one that refuses."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: UNIMPLEMENTED
            return handler
        verdict = self._gate.judge(handler_call_details)
        if verdict is None:
            return handler
        if isinstance(verdict, Reason):
            return rebuild(handler, lambda *_: _refuse, unread=True)
        return rebuild(
            handler, lambda behavior, stream: _as_caller(behavior, verdict, stream=stream)
        )


async def _refuse(_: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, PHRASE)


def _as_caller(behavior: Behavior, caller: VerifiedToken, *, stream: bool) -> Behavior:
    """Return `behavior`, of the same nature, with `caller` as the current one.

    An RPC is a task, whose context ends with it. A plain function runs on a thread.
    """
    if isasyncgenfunction(behavior):

        @wraps(behavior)
        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            caller_var.set(caller)
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    yield response

        return generate
    if iscoroutinefunction(behavior):

        @wraps(behavior)
        async def run(request: Any, context: Any) -> Any:
            caller_var.set(caller)
            return await behavior(request, context)

        return run
    return as_caller(behavior, caller, stream=stream)
