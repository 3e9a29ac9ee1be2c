"""gRPC interceptors for `grpc.intercept_channel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "GrpcAuthInterceptor"):
    import grpc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import Attempt, GrpcAuth
from ._grpc_metadata import reusable
from ._grpc_refusal import is_known_good, was_refused, watch
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

    An `authorization` in the caller's metadata wins, and such a call is none of ours. A call
    refused with UNAUTHENTICATED renews the token. A unary-unary call is then made once more, if
    the new token differs, within what remains of its timeout; a request iterator is never
    replayed, and a stream's status never waited for.

    As with any interceptor, what `with_call` returns has no `debug_error_string`: grpc puts an
    object of its own before it.
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
            provider: None is the process-wide one, looked up at each call.
            audience: The server's `aud`; None is the provider's.
            required: Fail a call for which there is no token, before a byte is sent, with an
                error that is a `TokenUnavailableError` and a `grpc.RpcError`.
        """
        self._auth = GrpcAuth(provider, audience, required=required)

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Send the call with a token, and once more where the token is refused."""
        details = reusable(client_call_details)
        try:
            attempt = self._auth.attach(details)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        if attempt is None:
            return continuation(details, request)
        call = continuation(attempt.details, request)
        try:
            if call.done():
                if is_known_good(call) or not was_refused(call):
                    return call
                # An error that was raised comes from a call that blocks: it may go on to do so.
                if getattr(call, "__traceback__", None) is not None:
                    second = self._again(continuation, attempt, request)
                    return call if second is None else second
            return RetryingCall(call, self._again, continuation, attempt, request)
        except Exception:  # another interceptor's object, which is no full call and future
            return call

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
        details = reusable(details)
        try:
            attempt = self._auth.attach(details)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        if attempt is None:
            return continuation(details, request)
        call = continuation(attempt.details, request)
        return watch(self._auth.refuse, call, attempt.decision)

    def _again(self, continuation: Continuation, attempt: Attempt, request: Any) -> Any:
        details = attempt.again(self._auth.renew(attempt.decision, attempt.deadline))
        if details is None:
            return None
        try:
            return continuation(details, request)
        except Exception:  # a channel closed meanwhile: the refusal stands
            return None
