"""gRPC interceptors for `grpc.aio` channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_aio_interceptors"):
    from grpc import aio

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_aio_call import retrying
from ._grpc_auth import Attempt, GrpcAuth
from ._grpc_refusal import aio_watched, is_refusal, wrapped

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

    Four objects, because a `grpc.aio` channel uses an interceptor for the first kind that it
    matches and for no other: with one object for all kinds, streams would carry no token. Other
    interceptors may come before and after them in the list.

    They do what `GrpcAuthInterceptor` does; the second try of a unary-unary call begins when the
    call is awaited or asked about its end. With any interceptor, a call has no `time_remaining()`.
    If the server refuses a stream while requests are being written, grpc.aio may report INTERNAL:
    the refusal is then not known, and no token is renewed.

    Args:
        provider: None is the process-wide one.
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
        attempt = await self._auth.attempt_async(details)
        call = await continuation(attempt.details(details), request)
        if attempt.token is None:
            return call
        return wrapped(call, aio_watched, partial(self._auth.refuse, attempt))


class _UnaryUnary(_Interceptor, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        attempt = await self._auth.attempt_async(client_call_details)
        again = partial(self._again, continuation, client_call_details, request, attempt)
        try:
            call = await continuation(attempt.details(client_call_details), request)
        except aio.AioRpcError as error:  # raised by another interceptor, which awaited the call
            if attempt.token is None or not is_refusal(error):
                raise
            call = await again()
            if call is None:
                raise
            return call
        return call if attempt.token is None else retrying(call, again)

    async def _again(
        self, continuation: Continuation, details: Any, request: Any, refused: Attempt
    ) -> Any:
        second = await self._auth.renew_async(refused)
        return second and await continuation(second.details(details), request)


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
