"""gRPC interceptors for `grpc.aio` channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_aio_interceptors"):
    from grpc import StatusCode, aio

from manor_mcp_interceptors._decision.decision import Decision
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import GrpcAuth
from ._grpc_metadata import reusable
from ._grpc_refusal import code_of_ended

__all__ = ["grpc_aio_interceptors"]

Continuation = Callable[[Any, Any], Any]


def grpc_aio_interceptors(
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> list[Any]:
    """Return interceptors that put a token on every call, of all four kinds.

        channel = grpc.aio.insecure_channel(target, interceptors=grpc_aio_interceptors())

    Four objects, because a `grpc.aio` channel files an interceptor under the first kind that it
    matches: one object for all would leave streams without a token, silently. Other interceptors
    may stand before and after them in the list.

    They do what `GrpcAuthInterceptor` does. As with any interceptor, a call has no
    `time_remaining()`. A stream that the server refuses while requests are being written may be
    INTERNAL to grpc.aio, which then does not tell anyone of the refusal: no token is renewed.

    Args:
        provider: None is the process-wide one, looked up at each call.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.aio.AioRpcError`.
    """
    auth = GrpcAuth(provider, audience, required=required)
    return [_UnaryUnary(auth), _UnaryStream(auth), _StreamUnary(auth), _StreamStream(auth)]


class _Interceptor:
    def __init__(self, auth: GrpcAuth) -> None:
        self._auth = auth

    async def _send(self, continuation: Continuation, details: Any, request: Any) -> Any:
        details = reusable(details)
        attempt = await self._auth.attach_async(details)
        if attempt is None:
            return await continuation(details, request)
        call = await continuation(attempt.details, request)
        try:
            call.add_done_callback(partial(self._ended, attempt.decision))
        except Exception:  # another interceptor's object, which is no full call
            return call
        return call

    def _ended(self, decision: Decision, call: Any) -> None:
        try:
            if code_of_ended(call) is StatusCode.UNAUTHENTICATED:
                self._auth.refuse(decision)
        except Exception:
            return


class _UnaryUnary(_Interceptor, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        details = reusable(client_call_details)
        attempt = await self._auth.attach_async(details)
        if attempt is None:
            return await continuation(details, request)
        call = error = None
        try:
            call = await continuation(attempt.details, request)
            refused = await _was_refused(call)
        except aio.AioRpcError as raised:  # by another interceptor, which awaited the call
            error, refused = raised, raised.code() is StatusCode.UNAUTHENTICATED
        again = None
        if refused:
            again = attempt.again(await self._auth.renew_async(attempt.decision, attempt.deadline))
        if again is not None:
            return await continuation(again, request)
        if error is not None:
            raise error
        return call


class _UnaryStream(_Interceptor, aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return await self._send(continuation, client_call_details, request)


class _StreamUnary(_Interceptor, aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._send(continuation, client_call_details, request_iterator)


class _StreamStream(_Interceptor, aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._send(continuation, client_call_details, request_iterator)


async def _was_refused(call: Any) -> bool:
    """Wait for a unary call to end; return whether it met UNAUTHENTICATED."""
    try:
        # And not its code(), which never comes where nothing could be sent, and which leaves the
        # call running when this task is cancelled.
        await call
    except aio.AioRpcError as error:
        return error.code() is StatusCode.UNAUTHENTICATED
    except Exception:  # the caller meets it at the call
        return False
    return False
