"""gRPC interceptors for `grpc.intercept_channel`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "GrpcAuthInterceptor"):
    import grpc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import Attempt, GrpcAuth
from ._grpc_refusal import was_refused, watched, wrapped
from ._grpc_retry import RetryingCall
from ._grpc_unavailable import TokenUnavailableRpcError

__all__ = ["GrpcAuthInterceptor"]

Continuation = Callable[[Any, Any], Any]

if TYPE_CHECKING:  # generic to type checkers alone
    _UnaryUnaryClientInterceptor = grpc.UnaryUnaryClientInterceptor[Any, Any]
    _UnaryStreamClientInterceptor = grpc.UnaryStreamClientInterceptor[Any, Any]
    _StreamUnaryClientInterceptor = grpc.StreamUnaryClientInterceptor[Any, Any]
    _StreamStreamClientInterceptor = grpc.StreamStreamClientInterceptor[Any, Any]
else:
    _UnaryUnaryClientInterceptor = grpc.UnaryUnaryClientInterceptor
    _UnaryStreamClientInterceptor = grpc.UnaryStreamClientInterceptor
    _StreamUnaryClientInterceptor = grpc.StreamUnaryClientInterceptor
    _StreamStreamClientInterceptor = grpc.StreamStreamClientInterceptor


class GrpcAuthInterceptor(
    _UnaryUnaryClientInterceptor,
    _UnaryStreamClientInterceptor,
    _StreamUnaryClientInterceptor,
    _StreamStreamClientInterceptor,
):
    """Puts a token on every call of a sync channel; one object for all four call kinds.

        channel = grpc.intercept_channel(channel, GrpcAuthInterceptor())

    A call that has `authorization` in its metadata is sent unchanged. A call refused with
    UNAUTHENTICATED renews the token. A unary-unary call is then sent a second time, if the new
    token is a different one, within what remains of its timeout. Calls that stream are not
    repeated, and their status is never waited for.

    With any interceptor, grpc wraps what `with_call` returns: it has no `debug_error_string`.
    """

    def __init__(
        self,
        *,
        provider: MCPTokenProvider | None = None,
        audience: str | None = None,
        required: bool = False,
    ) -> None:
        """Make an interceptor; any number of channels and threads may share it.

        Args:
            provider: None is the process-wide one.
            audience: The server's `aud`; None is the provider's.
            required: Fail a call for which there is no token, before a byte is sent, with an
                error that is a `TokenUnavailableError` and a `grpc.RpcError`.
        """
        self._auth = GrpcAuth(provider, audience, required=required)

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Send the call with a token, and a second time if the token is refused."""
        try:
            attempt = self._auth.attempt_for(client_call_details)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        call = continuation(attempt.details(client_call_details), request)
        if attempt.token is None:
            return call
        again = partial(self._again, continuation, client_call_details, request, attempt)
        return wrapped(call, _retrying, again)

    def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Send the call with a token."""
        return self._send(continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Send the call with a token."""
        return self._send(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Send the call with a token."""
        return self._send(continuation, client_call_details, request_iterator)

    def _send(self, continuation: Continuation, details: Any, request: Any) -> Any:
        try:
            attempt = self._auth.attempt_for(details)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        call = continuation(attempt.details(details), request)
        if attempt.token is None:
            return call
        return wrapped(call, watched, partial(self._auth.refuse, attempt))

    def _again(
        self, continuation: Continuation, details: Any, request: Any, refused: Attempt
    ) -> Any:
        second = self._auth.renew(refused)
        return second and continuation(second.details(details), request)


def _retrying(call: Any, again: Callable[[], Any]) -> Any:
    if call.done():
        if not was_refused(call):
            return call
        # An error that was raised comes from a call that blocks, so the second try may block too.
        if getattr(call, "__traceback__", None) is not None:
            return again() or call
    return RetryingCall(call, again)
