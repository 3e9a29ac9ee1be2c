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

from ._caller import current_caller
from ._grpc_gate import HEALTH, Behavior, CallGate, Enter, entering, status
from .reasons import Reason
from .verifier import TokenVerifier

__all__ = ["GrpcAioAuthServerInterceptor", "current_caller"]

if TYPE_CHECKING:  # generic for type checkers only
    _ServerInterceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.aio.ServerInterceptor


class GrpcAioAuthServerInterceptor(_ServerInterceptor):
    """As `GrpcAuthServerInterceptor`, for ``grpc.aio.server(interceptors=[...])``."""

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        exempt: Iterable[str] = HEALTH,
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment. If that has no
                usable secret, a warning is logged now.
            exempt: Methods that need no token, as ``/package.Service/Method`` or
                ``/package.Service/*``. They replace the default, the health service of gRPC.
            required_scopes: What the tokens must have in `scope`; a call with too few ends as
                PERMISSION_DENIED.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self._gate = CallGate(verifier, exempt, required_scopes)

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the method's handler with the caller set, or one that refuses."""
        handler = await continuation(handler_call_details)
        guarded: grpc.RpcMethodHandler[Any, Any]
        admission = await self._gate.admit_async(handler, handler_call_details)
        guarded = self._gate.guard(handler, handler_call_details, admission, _entering, _refuse)
        return guarded


def _refuse(reason: Reason) -> Behavior:
    async def abort(_: Any, context: Any) -> Any:
        await context.abort(*status(reason))

    return abort


def _entering(behavior: Behavior, enter: Enter, *, stream: bool) -> Behavior:
    """Return `behavior`, still of the same kind of function, that first calls `enter`.

    An RPC is a task, and its context ends with it. grpc.aio runs a plain function in a thread.
    """
    if isasyncgenfunction(behavior):

        @wraps(behavior)
        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            enter(context)
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    yield response

        return generate
    if iscoroutinefunction(behavior):

        @wraps(behavior)
        async def run(request: Any, context: Any) -> Any:
            enter(context)
            return await behavior(request, context)

        return run
    return entering(behavior, enter, stream=stream)
